"use strict";
// Bare times in, their pictures out: of each config, pass by pass, and step by step of a decode.

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
      return tip(spoken(row.config.full), [
        [say("median"), `${withUnit(row.median)}`], [say("min"), `${withUnit(row.min)}`], [say("max"), `${withUnit(row.max)}`],
        [say("bare passes"), String(row.count)],
      ]);
    }),
    xAxis: barAxis(),
    yAxis: categoryAxis(shown.map((_, at) => at), {
      inverse: true, axisLabel: nameLabel(left, (at) => spoken(shown[at].config.label)),
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
  const times = shown.map((row) => `${spoken(row.config.label)}: ${withUnit(row.median)}`).join("; ");
  const chart = draw("configs-chart", 36 + 30 * shown.length, say("Bare time of each config: {times}", { times }), option);
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

/** What each part allocates, as the terminal has it. */
function memory(config) {
  byId("memory-details").hidden = !config.memory;
  byId("memory").textContent = spoken(config.memory);
}

/** The passes of what is chosen, whole or a part, as {ns, run}. */
function chosenPasses(config) {
  const [kind, row] = byId("passes-part").value.split(":");
  const found = config.distributions[kind]?.rows[Number(row)];
  if (found) return { ...found, source: config.distributions[kind].source, kind, passes: found.ns.map((ns, at) => ({ ns, run: config.pass_runs[at] })) };
  const passes = config.steps_ns.some((steps) => steps.length)
    ? config.steps_ns.flatMap((steps, at) => steps.map((ns) => ({ ns, run: config.run_index[at] })))
    : config.bare_ns.map((ns, at) => ({ ns, run: config.run_index[at] })).filter((pass) => pass.ns !== null);
  return { passes, shape: [], source: "bare", kind: "" };
}

/** `12 clock passes`: how many, and what watched them. */
function passesOf(source, count) {
  if (source === "bare") return many(count, "bare pass");
  if (source === "clock") return many(count, "clock pass");
  return source === "device" ? many(count, "device pass") : many(count, "traced pass");
}

/** What can be chosen: the whole bare pass, and each part by the host's and the device's time. */
function passesChoices(config) {
  const parts = Object.entries(config.distributions).flatMap(([kind, { rows }]) => rows.flatMap((row, at) => (
    row.ns.length > 2 && row.ns.some(Boolean)
      ? [[`${kind}:${at}`, say("{part}, {kind} time", { part: fullName(config, config.rows[at]), kind: kind.toUpperCase() })]]
      : [])));
  return [["all", say("the whole pass, bare")], ...parts];
}

/** The passes in their order as points; beside them the empirical distribution. */
function passesChart(config) {
  const { passes, shape, source, kind } = chosenPasses(config);
  const hasParts = Object.values(config.distributions).some(({ rows }) => rows.some((row) => row.ns.length > 2));
  byId("passes-figure").hidden = passes.length < 3 && !hasParts;
  byId("passes-chart").hidden = passes.length < 3;
  byId("passes-note").textContent = "";
  if (passes.length < 3) return;
  const ranked = passes.map((pass) => pass.ns).sort((a, b) => a - b);
  const shares = [0.5, 0.9, 0.99].map((share) => [share, quantile(ranked, share)]);
  const axis = { scale: true, splitNumber: isNarrow() ? 3 : 5, axisLabel: { color: color("quiet"), hideOverlap: true, formatter: (v) => `${v} ${axisUnit()}` } };
  const ecdf = ranked.map((ns, at) => [scaled(ns), (at + 1) / ranked.length, ns]);
  const narrow = isNarrow();
  const option = {
    grid: narrow
      ? [{ left: 62, right: 20, top: 10, height: 150 }, { left: 62, right: 20, top: 220, height: 140 }]
      : [{ left: 62, right: "52%", top: 10, bottom: 40 }, { left: "56%", right: 24, top: 10, bottom: 40 }],
    tooltip: tooltip((about) => (about.seriesIndex
      ? tip(say("{share} % of the passes", { share: Math.round(100 * about.value[1]) }), [[say("take at most"), withUnit(about.value[2])]])
      : tip(say("run {run}, pass {number}", { run: about.value[3], number: about.value[0] + 1 }), [[say("time"), withUnit(about.value[2])]]))),
    xAxis: [
      valueAxis(say("pass, in order"), { nameLocation: "middle", nameGap: 26, minInterval: 1, splitLine: { show: false } }),
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
          // By itself it is drawn to a hundredth, of whatever unit.
          precision: 9, silent: true, symbol: "none", lineStyle: { color: color("quiet"), type: "dashed", width: 1 },
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
  const times = shares.map(([share, ns]) => `p${100 * share} ${withUnit(ns)}`).join(", ");
  draw("passes-chart", narrow ? 410 : 260, say("{passes}: {times}", { passes: passesOf(source, passes.length), times }), option);
  byId("passes-note").textContent = sentences([
    say("{passes}: min {min}, p50 {p50}, p90 {p90}, p99 {p99}, max {max}.", {
      passes: passesOf(source, passes.length), min: withUnit(ranked[0]), p50: withUnit(shares[0][1]), p90: withUnit(shares[1][1]),
      p99: withUnit(shares[2][1]), max: withUnit(ranked[ranked.length - 1]),
    }),
    kind && ranked.length < 20 ? say("Of so few passes the higher percentiles are little more than the slowest one.") : "",
    ...shape.map(spoken),
  ]);
}

function stepsChart(config) {
  const runs = config.steps_ns.filter((steps) => steps.length);
  byId("steps-figure").hidden = !runs.length;
  if (!runs.length) return;
  const all = runs.flat();
  const palette = DATA.families.map(color);
  const name = (at) => say("run {run}", { run: config.run_index[at] });
  legend(byId("steps-legend"), runs.map((_, at) => [name(at), palette[at % palette.length]]));
  const option = {
    color: palette,
    grid: { left: 62, right: 20, top: 10, bottom: 40 },
    tooltip: tooltip((about) => tip(say("{run}, step {step}", { run: about.seriesName, step: about.value[0] }), [[say("bare time"), `${withUnit(about.value[2])}`]])),
    xAxis: valueAxis(say("step"), { nameLocation: "middle", nameGap: 26, minInterval: 1, splitLine: { show: false } }),
    yAxis: msAxis("", { scale: true, axisLabel: { color: color("quiet"), formatter: (v) => `${v} ${axisUnit()}` } }),
    series: runs.map((steps, at) => ({
      type: "line", name: name(at), symbol: steps.length > 60 ? "none" : "circle", symbolSize: 5,
      triggerLineEvent: true, lineStyle: { width: 1.5 }, data: steps.map((ns, step) => [step, scaled(ns), ns]),
    })),
  };
  draw("steps-chart", 260, say("{steps}: median {median}, 90 % of them at most {p90}, 99 % at most {p99}", {
    steps: many(all.length, "decode step"), median: withUnit(median(all)), p90: withUnit(quantile(all, 0.9)), p99: withUnit(quantile(all, 0.99)),
  }), option);
}

function contextsChart(config) {
  const points = config.contexts;
  const contexts = new Set(points.map((point) => point.context));
  byId("contexts-figure").hidden = contexts.size < 2;
  if (contexts.size < 2) return;
  const lines = [["attn", "CPU", "attention"], ["ffn", "CPU", "ffn"]];
  if (config.on_device) lines.push(["attn_cuda", "CUDA", "attention"], ["ffn_cuda", "CUDA", "ffn"]);
  const timed = lines.filter(([key]) => points.some((point) => point[key]));
  const at = [...contexts].sort((a, b) => a - b);
  const middle = (key, context) => median(points.filter((p) => p.context === context).map((p) => p[key]));
  const option = {
    grid: { left: 62, right: 24, top: isNarrow() ? 52 : 30, bottom: 40 },
    legend: { top: 0, left: 0, icon: "path://M0,4 L14,4 L14,6 L0,6 Z", textStyle: { color: color("quiet") } },
    tooltip: tooltip((about) => tip(about.seriesName, [[say("context"), String(about.value[0])], [say("median over the runs"), `${withUnit(about.value[2])}`]])),
    xAxis: valueAxis(say("tokens that attention saw"), { nameLocation: "middle", nameGap: 26, scale: true, splitLine: { show: false } }),
    yAxis: msAxis("", { axisLabel: { color: color("quiet"), formatter: (v) => `${v} ${axisUnit()}` } }),
    series: timed.map(([key, kind, family]) => ({
      type: "line", name: `${family === "ffn" ? "FFN" : say("attention")}, ${kind}`, symbol: "circle", symbolSize: 7,
      itemStyle: { color: color(family) }, lineStyle: { width: 2, color: color(family), type: kind === "CPU" ? "dashed" : "solid" },
      data: at.map((context) => [context, scaled(middle(key, context)), middle(key, context)]),
    })),
  };
  draw("contexts-chart", 280, say("Time of attention and FFN of all layers at contexts from {first} to {last} tokens", { first: at[0], last: at[at.length - 1] }), option);

}
