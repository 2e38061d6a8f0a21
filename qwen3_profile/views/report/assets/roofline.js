"use strict";
// Parts at the FLOPs that they compute for each byte and each second, below the roofs.

const flopsText = (v) => (v >= 1e12 ? `${Number((v / 1e12).toPrecision(3))} TFLOP/s` : `${Number((v / 1e9).toPrecision(3))} GFLOP/s`);

const intensityText = (v) => `${Number(v.toPrecision(3))} FLOP/B`;

function rooflineChart(config) {
  const { roofline } = config;
  byId("roofline-figure").hidden = !roofline;
  byId("roofline-sentence").textContent = spoken(roofline?.sentence) ?? "";
  if (!roofline) return;
  const { points } = roofline;
  const ridge = roofline.flops_per_s / roofline.bytes_per_s;
  const from = 10 ** Math.floor(Math.log10(Math.min(ridge / 2, ...points.map((p) => p.intensity))));
  const to = 10 ** Math.ceil(Math.log10(Math.max(ridge * 2, ...points.map((p) => p.intensity))));
  const low = 10 ** Math.floor(Math.log10(Math.min(from * roofline.bytes_per_s, ...points.map((p) => p.flops_per_s))));
  const high = 10 ** Math.ceil(Math.log10(Math.max(roofline.flops_per_s, ...points.map((p) => p.flops_per_s))));
  const longest = Math.max(...points.map((p) => p.ns));
  const rise = Math.max(from, low / roofline.bytes_per_s);
  const logAxis = (name, text, more) => valueAxis(name, {
    type: "log", nameLocation: "middle", axisLabel: { color: color("quiet"), hideOverlap: true, formatter: text }, ...more,
  });
  const option = {
    grid: { left: 92, right: 24, top: 24, bottom: 44 },
    tooltip: tooltip(({ data }) => data.point && rooflineTip(data.point)),
    xAxis: logAxis(say("arithmetic intensity, FLOP per byte"), (v) => `${Number(v.toPrecision(3))}`, { nameGap: 26, min: from, max: to }),
    yAxis: logAxis("", flopsText, { min: low, max: high }),
    series: [
      {
        type: "line", symbol: "none", silent: true, z: 1, lineStyle: { color: color("mark"), width: 2 },
        data: [[rise, rise * roofline.bytes_per_s], [ridge, roofline.flops_per_s], [to, roofline.flops_per_s]],
      },
      {
        type: "scatter", z: 2, symbolSize: (_, { data }) => 7 + 17 * Math.sqrt(data.point.ns / longest),
        label: { show: true, formatter: ({ data }) => data.point.name, color: color("text"), fontSize: 11 },
        // A name that has no room has none under the mouse either; the tooltip says it.
        labelLayout: { hideOverlap: true }, emphasis: { disabled: true },
        data: points.map((point) => ({
          value: [point.intensity, point.flops_per_s], point,
          // Of the last points the names lie to the left, where there is room.
          label: { position: point.intensity > from * (to / from) ** 0.85 ? "left" : "right" },
          itemStyle: { color: color(DATA.families[point.family]), opacity: 0.8 },
        })),
      },
    ],
  };
  legend(byId("roofline-legend"), [...new Set(points.map((p) => p.family))].sort((a, b) => a - b).map((f) => [say(DATA.families[f]), color(DATA.families[f])]));
  const roofs = { flops: flopsText(roofline.flops_per_s), bytes: `${(roofline.bytes_per_s / 1e9).toFixed(1)} GB/s` };
  byId("roofline-note").textContent = sentences([
    say("Roofs: {flops} in {dtype}, {bytes}, measured on this device; they meet at {ridge}.", { ...roofs, dtype: roofline.dtype, ridge: intensityText(ridge) }),
    say("Larger points take longer."),
    roofline.others ? say("Not shown: {parts} without matrix products; the table below has their verdicts.", { parts: many(roofline.others, "part") }) : "",
  ]);
  const nearest = points.reduce((a, b) => (b.share > a.share ? b : a));
  draw("roofline-chart", 380, say("{parts} below roofs of {flops} and {bytes}; {nearest} is nearest to its roof, with {share} %", {
    ...roofs, parts: many(points.length, "part"), nearest: nearest.name, share: (100 * nearest.share).toFixed(0),
  }), option);
}

function rooflineTip(point) {
  return tip(point.name, [
    [say("time"), withUnit(point.ns)],
    [say("least time by its roof"), withUnit(point.floor_ns)],
    [say("of its roof"), `${(100 * point.share).toFixed(0)} %`],
    [say("computes"), flopsText(point.flops_per_s)],
    [say("moves"), `${(point.bytes_per_s / 1e9).toFixed(1)} GB/s`],
    [say("arithmetic intensity"), intensityText(point.intensity)],
    [say("verdict"), say(point.verdict)],

  ]);
}

/** What holds each part up, also where it multiplies no matrices. */
function verdictsTable(config) {
  byId("verdicts-body").hidden = !config.verdicts.length;
  const gain = (row) => cell(row.gain_ns === null ? "" : ms(row.gain_ns), row.gain_ns);
  const name = (row) => partCell(config, { ...row, leaf: true }, false);
  fillTable(byId("verdicts-table"), say("Verdicts on the parts"), [
    { name: say("part, all layers"), text: true, cell: name },
    timeColumn(config.on_device ? "CUDA ms" : "CPU ms", "ns"),
    { name: say("of roof"), value: (row) => row.share, cell: (row) => cell(row.share === null ? "" : percent(row.share), row.share) },
    { ...timeColumn(say("to gain ms"), "gain_ns"), cell: gain },
    { name: say("verdict"), text: true, value: (row) => row.verdict, cell: (row) => textCell(say(row.verdict)) },
    { name: say("because"), text: true, cell: (row) => textCell(spoken(row.why), "reason") },
  ], config.verdicts);
  const advice = new Map(config.verdicts.filter((row) => row.advice).map((row) => [row.verdict, spoken(row.advice)]));
  paragraphs(byId("verdicts-advice"), [...advice].map(([verdict, text]) =>
    say("What usually helps a {verdict} part: {advice}.", { verdict: say(verdict), advice: text })));
}
