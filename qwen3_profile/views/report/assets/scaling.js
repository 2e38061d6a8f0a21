"use strict";
// Configs of several sizes in, their times against batch size and input length out.

const scalingName = (key) => (key === "batch_size" ? say("batch size") : say("input length"));

/** What the configs differ in, by which they can be plotted. */
const scalingAxes = () => ["batch_size", "input_len"].filter((key) => scalingLines(key).size);

function scalingChart() {
  const key = byId("scaling-axis").value;
  byId("scaling-figure").hidden = !key;
  if (!key) return;
  const lines = scalingLines(key);
  const palette = DATA.families.map(color);
  const option = {
    color: palette,
    grid: { left: 62, right: 24, top: 10, bottom: 40 },
    tooltip: tooltip((about) => tip(about.seriesName, [
      [scalingName(key), String(about.value[0])], [say("median bare time"), `${withUnit(about.value[2])}`],
    ])),
    xAxis: valueAxis(scalingName(key), { type: "log", logBase: 2, nameLocation: "middle", nameGap: 26, minorSplitLine: { show: false } }),
    yAxis: msAxis("", { type: "log", logBase: 2, axisLabel: { color: color("quiet"), formatter: (v) => `${Number(v.toPrecision(3))} ${axisUnit()}` } }),
    series: [...lines].map(([name, points]) => ({
      type: "line", name, symbol: "circle", symbolSize: 8, lineStyle: { width: 2 }, data: points,
    })),
  };
  legend(byId("scaling-legend"), [...lines].map(([name], at) => [name, palette[at % palette.length]]));
  const times = [...lines].map(([name, points]) => `${name}: ${points.map((p) => `${p[0]}: ${withUnit(p[2])}`).join(", ")}`).join("; ");
  draw("scaling-chart", 280, say("Bare time against {size}. {times}", { size: scalingName(key), times }), option);
}

/** The tables of all sweeps, as the terminal has them. */
function sweeps() {
  byId("sweeps-details").hidden = !DATA.sweeps.length;
  byId("sweeps").textContent = DATA.sweeps.map((sweep) => spoken(sweep.text)).join("\n\n\n");
}

/** The configs that are alike but for `key`, as lines of [its value, ms, ns]; two points at least. */
function scalingLines(key) {
  const other = key === "batch_size" ? "input_len" : "batch_size";
  const lines = new Map();
  for (const config of DATA.configs) {
    const times = bareTimes(config);
    if (!times.length || config[key] === null) continue;
    const name = spoken(config.label).replace(`${config.batch_size} x ${config.input_len}`, say("with {size} {value}", { size: scalingName(other), value: config[other] }));
    if (!lines.has(name)) lines.set(name, []);
    lines.get(name).push([config[key], scaled(median(times)), median(times)]);
  }
  for (const [name, points] of lines) {
    points.sort((a, b) => a[0] - b[0]);
    if (points[0][0] === points[points.length - 1][0]) lines.delete(name);
  }
  return lines;
}

/** The sweep that a config is of; one in which both sizes vary. */
const sweepOf = (config) => DATA.sweeps.find((sweep) => sweep.configs.includes(DATA.configs.indexOf(config)));

function gridChoices(config) {
  const parts = sweepOf(config)?.names.slice(1) ?? [];
  return [["all", say("the whole pass, bare")], ...parts.map((path, at) => [String(at + 1), path.slice(1).join(" / ") || path[0]])];
}

/** Time against batch size and input length at once: a cell for each size that was measured. */
function gridChart(config) {
  const sweep = sweepOf(config);
  const batches = [...new Set(sweep?.batches)].sort((a, b) => a - b);
  const lengths = [...new Set(sweep?.lengths)].sort((a, b) => a - b);
  byId("grid-figure").hidden = batches.length < 2 || lengths.length < 2;
  if (byId("grid-figure").hidden) return;
  const row = Number(byId("grid-row").value) || 0;
  const times = sweep.times_ns[row];
  const cells = times.map((ns, at) => ({
    value: [lengths.indexOf(sweep.lengths[at]), batches.indexOf(sweep.batches[at]), Math.log10(Math.max(1, ns)), at],
    itemStyle: DATA.configs[sweep.configs[at]] === config ? { borderColor: color("text"), borderWidth: 2 } : { borderColor: color("ground"), borderWidth: 1 },
  }));
  const logs = cells.map((each) => each.value[2]);
  const rate = (at) => `${Math.round(sweep.rates[at]).toLocaleString("en-US")} tokens/s`;
  const busy = (at) => (sweep.busy[at] === null ? "" : say("busy {share} %", { share: Math.round(100 * sweep.busy[at]) }));
  const lines = (at) => [withUnit(times[at]), ...(row || isNarrow() ? [] : [rate(at), busy(at)])].filter(Boolean).join("\n");
  const height = (row || isNarrow() ? 40 : 62) * batches.length;
  const option = {
    grid: { left: 76, right: 16, top: 8, height },
    tooltip: tooltip((about) => {
      const at = about.value[3];
      return tip(say("batch size {batch}, input length {length}", { batch: sweep.batches[at], length: sweep.lengths[at] }),
        [[say("time"), withUnit(times[at])], [say("whole batch"), rate(at)], ...(busy(at) ? [[say("GPU"), busy(at)]] : [])]);
    }),
    xAxis: categoryAxis(lengths.map(String), { name: say("input length"), nameLocation: "middle", nameGap: 26, nameTextStyle: { color: color("quiet") } }),
    yAxis: categoryAxis(batches.map(String), { name: say("batch size"), nameLocation: "middle", nameGap: 40, nameTextStyle: { color: color("quiet") } }),
    visualMap: { show: false, min: Math.min(...logs), max: Math.max(...logs) + 1e-9, dimension: 2, inRange: { color: [`${color("accent")}0c`, `${color("accent")}78`] } },
    series: [{
      type: "heatmap", data: cells, progressive: 0, cursor: "pointer",
      label: { show: true, color: color("text"), fontSize: 12, lineHeight: 16, formatter: (about) => lines(about.value[3]) },
    }],
  };
  const words = times.map((ns, at) => `${sweep.batches[at]} x ${sweep.lengths[at]}: ${withUnit(ns)}`).join(", ");
  const chart = draw("grid-chart", height + 56, say("Time at each batch size and input length: {times}", { times: words }), option);
  chart.off("click");
  chart.on("click", (about) => choose(sweep.configs[about.value[3]]));
  const missing = batches.length * lengths.length - times.length;
  byId("grid-note").textContent = sentences([
    say("The stronger the colour, the longer, by its logarithm."),
    missing ? say("Sizes that were not measured, or did not fit, are empty: {count}.", { count: missing }) : "",
  ]);
}
