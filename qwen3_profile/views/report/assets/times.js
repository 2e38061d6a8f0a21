"use strict";
// Bare times in, their pictures out: of each config, against sizes, and step by step of a decode.

/** Every bare time that was measured: of a decode, of each step of each run. */
function bareTimes(config) {
  const steps = config.steps_ns.flat();
  return steps.length ? steps : known(config.bare_ns);
}

function configsChart(current) {
  const rows = DATA.configs
    .map((config, at) => ({ config, at, times: bareTimes(config) }))
    .filter((row) => row.times.length);
  byId("configs-figure").hidden = !rows.length;
  if (!rows.length) return;
  const shown = rows.map(({ config, at }) => ({
    at, config, ...config.bare,
  }));
  const left = isNarrow() ? 128 : 260;
  const option = {
    grid: { left, right: 84, top: 4, bottom: 28 },
    tooltip: tooltip((about) => {
      const row = shown[about.dataIndex];
      return tip(row.config.full, [
        ["median", `${withUnit(row.median)}`], ["min", `${withUnit(row.min)}`], ["max", `${withUnit(row.max)}`],
        ["bare passes", String(row.count)],
      ]);
    }),
    xAxis: barAxis(),
    yAxis: categoryAxis(shown.map((_, at) => at), {
      inverse: true, axisLabel: nameLabel(left, (at) => shown[at].config.label),
    }),
    series: [
      {
        type: "bar", barMaxWidth: 18, cursor: "pointer",
        data: shown.map((row) => ({
          value: scaled(row.median),
          itemStyle: { color: color("accent"), opacity: row.config === current ? 1 : 0.45 },
        })),
      },
      {
        type: "custom", silent: true, z: 5, renderItem: (_, api) => whisker(api), encode: { x: [1, 2], y: 0 },
        data: shown.map((row, at) => [at, scaled(row.min), scaled(row.max), row.median]),
      },
    ],
  };
  const words = shown.map((row) => `${row.config.label}: ${withUnit(row.median)}`).join("; ");
  const chart = draw("configs-chart", 36 + 30 * shown.length, `Bare time of each config: ${words}`, option);
  chart.off("click");
  chart.on("click", (about) => choose(shown[about.dataIndex].at));
}

/** From the fastest to the slowest pass, with the median written behind it. */
function whisker(api) {
  const low = api.coord([api.value(1), api.value(0)]);
  const high = api.coord([api.value(2), api.value(0)]);
  const line = (x1, y1, x2, y2) => ({
    type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: color("text"), lineWidth: 1.25 },
  });
  const ends = [line(low[0], low[1], high[0], low[1]), line(low[0], low[1] - 4, low[0], low[1] + 4), line(high[0], low[1] - 4, high[0], low[1] + 4)];
  return {
    type: "group",
    children: [
      ...(high[0] - low[0] < 1 ? [] : ends),
      { type: "text", style: { text: ms(api.value(3)), x: high[0] + 8, y: low[1], fill: color("text"), font: `12px ${FONT}`, textVerticalAlign: "middle" } },
    ],
  };
}

const SCALING = { batch_size: "batch size", input_len: "input length" };

/** What the configs differ in, by which they can be plotted. */
const scalingAxes = () => Object.keys(SCALING).filter((key) => scalingLines(key).size);

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
      [SCALING[key], String(about.value[0])], ["median bare time", `${withUnit(about.value[2])}`],
    ])),
    xAxis: valueAxis(SCALING[key], { type: "log", logBase: 2, nameLocation: "middle", nameGap: 26, minorSplitLine: { show: false } }),
    yAxis: msAxis("", { type: "log", logBase: 2, axisLabel: { color: color("quiet"), formatter: (v) => `${Number(v.toPrecision(3))} ${unitName()}` } }),
    series: [...lines].map(([name, points]) => ({
      type: "line", name, symbol: "circle", symbolSize: 8, lineStyle: { width: 2 }, data: points,
    })),
  };
  legend(byId("scaling-legend"), [...lines].map(([name], at) => [name, palette[at % palette.length]]));
  const words = [...lines].map(([name, points]) => `${name}: ${points.map((p) => `${p[0]}: ${withUnit(p[2])}`).join(", ")}`);
  draw("scaling-chart", 280, `Bare time against ${SCALING[key]}. ${words.join("; ")}`, option);
}

/** The tables of all sweeps, as the terminal has them. */
function sweeps() {
  byId("sweeps-details").hidden = !DATA.sweeps.length;
  byId("sweeps").textContent = DATA.sweeps.join("\n\n\n");
}

/** The configs that are alike but for `key`, as lines of [its value, ms, ns]; two points at least. */
function scalingLines(key) {
  const other = key === "batch_size" ? "input_len" : "batch_size";
  const lines = new Map();
  for (const config of DATA.configs) {
    const times = bareTimes(config);
    if (!times.length || config[key] === null) continue;
    const name = config.label.replace(`${config.batch_size} x ${config.input_len}`, `with ${SCALING[other]} ${config[other]}`);
    if (!lines.has(name)) lines.set(name, []);
    lines.get(name).push([config[key], scaled(median(times)), median(times)]);
  }
  for (const [name, points] of lines) {
    points.sort((a, b) => a[0] - b[0]);
    if (points[0][0] === points[points.length - 1][0]) lines.delete(name);
  }
  return lines;
}

/** Every bare pass as a point, those of a run in one column; beside it the empirical distribution. */
function passesChart(config) {
  const runs = config.steps_ns.some((steps) => steps.length)
    ? config.steps_ns.map((steps, at) => steps.map((ns) => ({ ns, run: config.run_index[at] })))
    : [config.bare_ns.map((ns, at) => ({ ns, run: config.run_index[at] })).filter((pass) => pass.ns !== null)];
  const passes = runs.flat();
  byId("passes-figure").hidden = passes.length < 3;
  if (passes.length < 3) return;
  const ranked = passes.map((pass) => pass.ns).sort((a, b) => a - b);
  const shares = [0.5, 0.9, 0.99].map((share) => [share, quantile(ranked, share)]);
  const axis = { scale: true, axisLabel: { color: color("quiet"), formatter: (v) => `${v} ${unitName()}` } };
  const ecdf = ranked.map((ns, at) => [scaled(ns), (at + 1) / ranked.length, ns]);
  const narrow = isNarrow();
  const option = {
    grid: narrow
      ? [{ left: 62, right: 20, top: 10, height: 150 }, { left: 62, right: 20, top: 220, height: 140 }]
      : [{ left: 62, right: "52%", top: 10, bottom: 40 }, { left: "56%", right: 24, top: 10, bottom: 40 }],
    tooltip: tooltip((about) => (about.seriesIndex
      ? tip(`${Math.round(100 * about.value[1])} % of the passes`, [["take at most", withUnit(about.value[2])]])
      : tip(`run ${about.value[3]}, pass ${about.value[0] + 1}`, [["bare time", withUnit(about.value[2])]]))),
    xAxis: [
      valueAxis("pass, in order", { nameLocation: "middle", nameGap: 26, minInterval: 1, splitLine: { show: false } }),
      msAxis("", { ...axis, gridIndex: 1 }),
    ],
    yAxis: [
      msAxis("", axis),
      valueAxis("", { gridIndex: 1, min: 0, max: 1, axisLabel: { color: color("quiet"), formatter: (v) => `${Math.round(100 * v)} %` } }),
    ],
    series: [
      {
        type: "scatter", symbolSize: passes.length > 200 ? 4 : 7, itemStyle: { color: color("accent"), opacity: 0.7 },
        data: passes.map((pass, at) => [at, scaled(pass.ns), pass.ns, pass.run]),
        markLine: {
          silent: true, symbol: "none", lineStyle: { color: color("quiet"), type: "dashed", width: 1 },
          label: { position: "insideEndTop", color: color("quiet"), formatter: (line) => line.name },
          data: shares.slice(0, ranked.length >= 20 ? 3 : 1).map(([share, ns]) => ({ name: `p${100 * share}`, yAxis: scaled(ns) })),
        },
      },
      {
        type: "line", step: "end", symbol: ranked.length > 60 ? "none" : "circle", symbolSize: 4, xAxisIndex: 1, yAxisIndex: 1,
        lineStyle: { color: color("accent"), width: 1.5 }, itemStyle: { color: color("accent") }, triggerLineEvent: true, data: ecdf,
      },
    ],
  };
  const words = shares.map(([share, ns]) => `p${100 * share} ${withUnit(ns)}`).join(", ");
  draw("passes-chart", narrow ? 410 : 260, `${passes.length.toLocaleString("en-US")} bare passes: ${words}`, option);
}

function stepsChart(config) {
  const runs = config.steps_ns.filter((steps) => steps.length);
  byId("steps-figure").hidden = !runs.length;
  if (!runs.length) return;
  const all = runs.flat();
  const palette = DATA.families.map(color);
  legend(byId("steps-legend"), runs.map((_, at) => [`run ${config.run_index[at]}`, palette[at % palette.length]]));
  const option = {
    color: palette,
    grid: { left: 62, right: 20, top: 10, bottom: 40 },
    tooltip: tooltip((about) => tip(`${about.seriesName}, step ${about.value[0]}`, [["bare time", `${withUnit(about.value[2])}`]])),
    xAxis: valueAxis("step", { nameLocation: "middle", nameGap: 26, minInterval: 1, splitLine: { show: false } }),
    yAxis: msAxis("", { scale: true, axisLabel: { color: color("quiet"), formatter: (v) => `${v} ${unitName()}` } }),
    series: runs.map((steps, at) => ({
      type: "line", name: `run ${config.run_index[at]}`, symbol: steps.length > 60 ? "none" : "circle", symbolSize: 5,
      triggerLineEvent: true, lineStyle: { width: 1.5 }, data: steps.map((ns, step) => [step, scaled(ns), ns]),
    })),
  };
  draw("steps-chart", 260, `${many(all.length, "decode step")}: median ${withUnit(median(all))}, 90 % of them at most ${withUnit(quantile(all, 0.9))}, 99 % at most ${withUnit(quantile(all, 0.99))}`, option);
}

function contextsChart(config) {
  const points = config.contexts;
  const contexts = new Set(points.map((point) => point.context));
  byId("contexts-figure").hidden = contexts.size < 2;
  if (contexts.size < 2) return;
  const lines = [["attn", "CPU", "attention"], ["ffn", "CPU", "ffn"]];
  if (config.on_device) lines.push(["attn_cuda", "CUDA", "attention"], ["ffn_cuda", "CUDA", "ffn"]);
  const at = [...contexts].sort((a, b) => a - b);
  const middle = (key, context) => median(points.filter((p) => p.context === context).map((p) => p[key]));
  const option = {
    grid: { left: 62, right: 24, top: 30, bottom: 40 },
    legend: { top: 0, left: 0, icon: "path://M0,4 L14,4 L14,6 L0,6 Z", textStyle: { color: color("quiet") } },
    tooltip: tooltip((about) => tip(about.seriesName, [["context", String(about.value[0])], ["median over the runs", `${withUnit(about.value[2])}`]])),
    xAxis: valueAxis("tokens that attention saw", { nameLocation: "middle", nameGap: 26, scale: true, splitLine: { show: false } }),
    yAxis: msAxis("", { axisLabel: { color: color("quiet"), formatter: (v) => `${v} ${unitName()}` } }),
    series: lines.map(([key, kind, family]) => ({
      type: "line", name: `${family === "ffn" ? "FFN" : "attention"}, ${kind}`, symbol: "circle", symbolSize: 7,
      itemStyle: { color: color(family) }, lineStyle: { width: 2, color: color(family), type: kind === "CPU" ? "dashed" : "solid" },
      data: at.map((context) => [context, scaled(middle(key, context)), middle(key, context)]),
    })),
  };
  draw("contexts-chart", 280, `Time of attention and FFN of all layers at contexts from ${at[0]} to ${at[at.length - 1]} tokens`, option);
}
