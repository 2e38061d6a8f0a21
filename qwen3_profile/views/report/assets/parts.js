"use strict";
// The parts of a pass in, three pictures out: where the time went, what the device waited for, and
// which kernels ran.

const MOST_BARS = 18;

/**
 * The leaves by time, the longest first, and in one row what there is no room for: what has little of
 * any of the times that are shown.
 */
function longestLeaves(config, value, keys) {
  const leaves = config.rows.filter((row) => row.leaf && keys.some((key) => row[key] > 0) && matches(fullName(config, row)));
  const whole = keys.map((key) => sum(leaves.map((row) => row[key])) || 1);
  const most = (row) => Math.max(...keys.map((key, at) => row[key] / whole[at]));
  leaves.sort((a, b) => most(b) - most(a));
  // A row that sums up a single part would take as much room as the part.
  const shown = leaves.length <= MOST_BARS + 1 ? leaves.length : MOST_BARS;
  const rows = leaves.slice(0, shown).sort((a, b) => value(b) - value(a)).map((row) => ({ ...row, text: fullName(config, row) }));
  const rest = leaves.slice(shown);
  if (rest.length) {
    const row = { text: many(rest.length, "smaller part"), family: DATA.families.indexOf("other") };
    for (const key of keys) row[key] = sum(rest.map((leaf) => leaf[key]));
    rows.push(row);
  }
  return rows;
}

/** Panels of bars beside each other over the same rows; below each other where it is narrow. */
function panels(id, rows, titles, series, contents) {
  const narrow = isNarrow();
  const count = titles.length;
  const inner = rows.length * 23;
  const labels = narrow ? 128 : 190;
  const beside = 56; // what the percentages need behind the longest bar
  const width = narrow ? undefined : (widthOf(id) - labels - count * beside - (count - 1) * 16) / count;
  const grid = titles.map((_, at) => ({
    left: narrow ? labels : labels + at * (width + beside + 16),
    top: 24 + (narrow ? at * (inner + 64) : 0),
    height: inner,
    ...(narrow ? { right: beside } : { width }),
  }));
  return {
    height: narrow ? count * (inner + 64) : inner + 52,
    option: {
      grid,
      title: titles.map((text, at) => chartTitle(text, grid[at].left - 5, grid[at].top - 25)),
      tooltip: tooltip(contents, { trigger: "axis", axisPointer: { type: "shadow" } }),
      axisPointer: { link: [{ yAxisIndex: "all" }] },
      xAxis: titles.map((_, at) => barAxis({ gridIndex: at, splitNumber: 3 })),
      yAxis: titles.map((_, at) => categoryAxis(rows.map((_, row) => row), {
        gridIndex: at, inverse: true,
        axisLabel: { ...nameLabel(labels, (row) => rows[row].text), show: narrow || at === 0 },
      })),
      series,
    },
  };
}

function partsChart(config) {
  const kinds = config.on_device ? [["CUDA", "device_ns"], ["CPU", "cpu_ns"]] : [["CPU", "cpu_ns"]];
  const keys = kinds.map(([, key]) => key);
  const whole = config.rows[0];
  const rows = longestLeaves(config, (row) => row[keys[0]], keys);
  const series = kinds.map(([name, key], at) => ({
    type: "bar", name, xAxisIndex: at, yAxisIndex: at, barWidth: "68%",
    data: rows.map((row) => ({ value: scaled(row[key]), itemStyle: { color: color(DATA.families[row.family]) } })),
    label: {
      show: true, position: "right", color: color("quiet"), fontSize: 11,
      formatter: (about) => (whole[key] ? percent(rows[about.dataIndex][key] / whole[key]) : ""),
    },
  }));
  const { height, option } = panels("parts-chart", rows, kinds.map(([name, key]) => `${name}, ${withUnit(whole[key])}`), series, (about) => {
    const row = rows[(Array.isArray(about) ? about[0] : about).dataIndex];
    return tip(row.text, kinds.map(([name, key]) => [name, `${withUnit(row[key])}, ${whole[key] ? percent(row[key] / whole[key]) : "-"}`]));
  });
  byId("parts-caption").textContent = sentences([
    say("Each part of the pass, all layers together; nested parts are not counted twice."),
    config.on_device ? say("CUDA: device events launched inside, whenever they ran; CPU: wall-clock on the host.") : say("CPU: wall-clock on the host."),
  ]);
  familyLegend("parts-legend", rows);
  const times = rows.map((row) => `${row.text} ${kinds.map(([name, key]) => `${name} ${withUnit(row[key])}`).join(", ")}`).join("; ");
  draw("parts-chart", height, say("Time of the parts: {times}", { times }), option);
}

function verdict(config) {
  const { share, first } = config;
  const marks = [DATA.thresholds.idle, DATA.thresholds.busy];
  const at = (element, place) => {
    element.style.left = `${100 * place}%`;
    return element;
  };
  const worked = make("i");
  worked.style.width = `${Math.min(100, 100 * share.share)}%`;
  const bar = make("div", { class: "meter", "aria-hidden": "true" }, worked, ...marks.map((mark) => at(make("b"), mark)));
  const scale = make("div", { class: "scale", "aria-hidden": "true" },
    ...[0, ...marks, 1].map((mark) => at(make("span", {}, `${Math.round(100 * mark)}%`), mark)));
  const bounds = { idle: Math.round(100 * marks[0]), busy: Math.round(100 * marks[1]) };
  byId("verdict").replaceChildren(
    make("div", { class: "verdict" },
      make("p", {}, make("strong", { id: "verdict-word" }, say(first.verdict)), say(": busy {busy} of {span}", { busy: ms(share.busy_ns), span: withUnit(share.span_ns) })),
      bar, scale,
      make("p", { class: "quiet" }, share.is_bare
        ? say("GPU busy, as a share of the bare pass: GPU-bound above {busy}%; below {idle}% launch-bound, if it waits for the CPU.", bounds)
        : say("GPU busy, as a share of the traced pass: GPU-bound above {busy}%; below {idle}% launch-bound, if it waits for the CPU.", bounds))),
  );
}

function waitsChart(config) {
  const rows = longestLeaves(config, (row) => row.device_ns + row.gap_ns, ["device_ns", "gap_ns", "launch_ns"]);
  const bars = [
    [say("GPU busy"), "device_ns", 0, "accent"], [say("GPU idle before"), "gap_ns", 0, "idle"], [say("CPU in launch calls"), "launch_ns", 1, "launch"],
  ];
  legend(byId("waits-legend"), bars.map(([name, , , tone]) => [name, color(tone)]));
  const series = bars.map(([name, key, at, tone]) => ({
    type: "bar", name, stack: `panel${at}`, xAxisIndex: at, yAxisIndex: at, barWidth: "68%",
    itemStyle: { color: color(tone) }, data: rows.map((row) => scaled(row[key])),
  }));
  const { height, option } = panels("waits-chart", rows, [say("device"), "CPU"], series, (about) => {
    const row = rows[(Array.isArray(about) ? about[0] : about).dataIndex];
    const classes = ["starved", "launching", "queued", "blocked"].filter((name) => row[`${name}_ns`]);
    return tip(row.text, [
      ...bars.map(([name, key]) => [name, `${withUnit(row[key])}`]),
      ...classes.map((name) => [say(`idle: ${name}`), `${withUnit(row[`${name}_ns`])}`]),
    ]);
  });
  const times = rows.map((row) => say("{part} {busy} busy, {idle} idle before", { part: row.text, busy: withUnit(row.device_ns), idle: withUnit(row.gap_ns) })).join("; ");
  draw("waits-chart", height, say("GPU busy and idle time by part: {times}", { times }), option);
}

function kernelsChart(config, part) {
  const all = kernelRows(config, part);
  const rows = all.slice(0, 12).map((row) => ({ ...row, text: row.name === null ? row.text : shortName(row.name) }));
  const whole = sum(all.map((row) => row.total));
  const option = {
    grid: { left: isNarrow() ? 128 : 300, right: 110, top: 6, bottom: 28 },
    tooltip: tooltip((about) => {
      const row = rows[about.dataIndex];
      return tip(row.name === null ? row.text : cut(row.name, 220), [
        [say("part"), row.part], [say("calls"), String(row.calls)], [say("total"), `${withUnit(row.total)}`],
        [say("mean"), `${(row.total / row.calls / 1e3).toFixed(2)} \u00b5s`], [say("launched by"), row.op || null],
      ]);
    }),
    xAxis: barAxis(),
    yAxis: categoryAxis(rows.map((_, at) => at), {
      inverse: true, axisLabel: nameLabel(isNarrow() ? 128 : 300, (at) => rows[at].text),
    }),
    series: [{
      type: "bar", barWidth: "66%",
      data: rows.map((row) => ({ value: scaled(row.total), itemStyle: { color: color(familyOf(config, row.row)) } })),
      label: {
        show: true, position: "right", color: color("quiet"), fontSize: 11,
        formatter: (about) => cut(`${percent(whole ? rows[about.dataIndex].total / whole : 0)} ${ownName(rows[about.dataIndex].part)}`, 18),
      },
    }],
  };
  const rest = Math.min(all.length, MOST_KERNEL_ROWS) - rows.length;
  const most = many(rows.length, "row");
  byId("kernels-caption").textContent = !rows.length ? "" : rest > 0
    ? say("The {rows} of the most time; the table has {more}", { rows: most, more: many(rest, "more row") })
    : say("The {rows} of the most time", { rows: most });
  draw("kernels-chart", 40 + 25 * rows.length, rows.map((row) => say("{kernel} in {part}: {time}", { kernel: row.text, part: row.part, time: withUnit(row.total) })).join("; "), option);

}

/** A part's last name; of the rest of a part, that part's. */
function ownName(path) {
  const names = path.split(" / ");
  return names.length > 1 && names[names.length - 1] === "other" ? names[names.length - 2] : names[names.length - 1];
}

const familyOf = (config, row) => DATA.families[row < 0 ? DATA.families.length - 1 : config.rows[row].family];
