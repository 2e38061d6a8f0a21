"use strict";
// One pass of all ranks in, a layer of it on one time line and the times of parts by rank out.

const RANK_PX = 34;

const rankView = (config) => (config.rank_view === null ? null : DATA.rank_views[config.rank_view]);

/** The layer that a link need not name; none where there is one process. */
function usualRankLayer(config) {
  const view = rankView(config);
  return view === null ? "" : view.layer < 0 ? "all" : String(view.layer);
}

/** The starts of bars, which the file has as steps. */
function runningStarts(steps) {
  let at = 0;
  return steps.map((step) => (at += step));
}

function ranksSection(config) {
  const view = rankView(config);
  byId("ranks").hidden = view === null;
  if (view === null) return;
  paragraphs(byId("ranks-answer"), [stragglerSentence(view), clockSentence(view), ...view.differences]);
  const choices = [["all", say("the whole pass")], ...view.layers.map((layer) => [String(layer), say("layer {number}", { number: layer })])];
  const before = byId("ranks-layer").value;
  const isKnown = choices.some(([value]) => value === before);
  fill(byId("ranks-layer"), choices, isKnown ? before : usualRankLayer(config));
  ranksTable(view);
  byId("ranks-note").textContent = ranksNote(view);
}

function stragglerSentence(view) {
  const late = view.straggler;
  if (late === null) return say("No rank waits for another.");
  const values = { rank: late.rank, last: late.last, of: late.of, held: withUnit(late.held), passes: many(view.passes, "pass") };
  return sentences([
    say("The others wait for rank {rank}: in {passes} it comes last to {last} of {of} collectives, and the first rank there waits {held} for it in all.", values),
    late.label === null ? "" : say("Its largest single loss is {time} in {label}.", { time: withUnit(late.lost), label: late.label || say("no label") }),
  ]);
}

const micro = (ns) => `${(ns / 1e3).toFixed(1)} \u00b5s`;

function clockSentence(view) {
  if (view.residual === null) return say("No collective tells how far the clocks are apart.");
  const [least, most] = view.residual;
  return say("Clocks are aligned by the ends of collectives; residual {least} to {most}.", {
    least: micro(least), most: micro(most),
  });
}

function ranksNote(view) {
  const wide = view.columns.some(([first, last]) => first !== last);
  return sentences([
    view.passes > 1 ? say("Time line and table show one pass of {count}.", { count: view.passes }) : "",
    say("Waiting: what a rank needs longer for a collective than the fastest rank; transfer: what that one needs, at most."),
    view.lines.length < view.ranks ? say("The time line shows {some} of {all} ranks, from the least to the most time in collectives.", { some: view.lines.length, all: view.ranks }) : "",
    view.cell_ranks < view.ranks ? say("The table is of these ranks.") : "",
    wide ? say("A column is the mean of its ranks; below it the most of one, and whose that is.") : "",
  ]);
}

/** Where the bars of a layer begin and end on any rank; "all": of the whole pass. */
function rankWindow(view, layer) {
  let [from, to] = [Infinity, 0];
  for (const line of view.lines) {
    for (const bars of [line.work, line.collectives]) {
      runningStarts(bars.start).forEach((start, at) => {
        if (layer !== "all" && bars.layer[at] !== Number(layer)) return;
        from = Math.min(from, start);
        to = Math.max(to, start + bars.dur[at]);
      });
    }
  }
  return from < to ? [from, to] : [0, 1];
}

/** What the picture shows of a window: [line, start, end, colour, is of another layer, bar]. */
function rankBars(view, layer, from, to) {
  const found = [];
  const add = (line, start, end, kind, bars, at) => {
    if (end <= from || start >= to || end <= start) return;
    const other = layer !== "all" && bars.layer[at] !== Number(layer);
    found.push({ value: [line, start, end], kind, other, bars, at, begun: start });
  };
  view.lines.forEach(({ work, collectives }, line) => {
    runningStarts(work.start).forEach((start, at) => add(line, start, start + work.dur[at], "work", work, at));
    runningStarts(collectives.start).forEach((start, at) => {
      const waits = Math.max(0, collectives.waiting[at]);
      const end = start + collectives.dur[at];
      add(line, start, start + waits, "waiting", collectives, at);
      add(line, start + waits, end, collectives.waiting[at] < 0 ? "unsplit" : "transfer", collectives, at);
    });
  });
  return found;
}

const rankColor = (view, bar) => {
  if (bar.kind === "waiting") return color("idle");
  if (bar.kind !== "work") return color("mark");
  const part = view.parts[bar.bars.part[bar.at]];
  return color(part ? DATA.families[part.family] : "other");
};

function ranksChart(config) {
  const view = rankView(config);
  if (view === null) return;
  const layer = byId("ranks-layer").value;
  const [from, to] = rankWindow(view, layer);
  const bars = rankBars(view, layer, from, to);
  const left = 64;
  const height = RANK_PX * view.lines.length;
  const names = view.lines.map((line) => say("rank {number}", { number: line.rank }));
  draw("ranks-chart", height + 82, rankWords(view, layer, bars), {
    grid: { left, right: 16, top: 24, height },
    tooltip: tooltip((about) => rankTip(view, bars[about.dataIndex]), { trigger: "item" }),
    xAxis: valueAxis("", {
      min: from, max: to, position: "top", splitNumber: isNarrow() ? 3 : 6,
      axisLabel: { color: color("quiet"), hideOverlap: true, formatter: (ns) => (ns === from || ns === to ? "" : axisTime(ns, (to - from) / 8)) },
      splitLine: { show: true, lineStyle: { color: color("line") } },
    }),
    yAxis: categoryAxis(names, { inverse: true, axisLabel: { color: color("text"), width: left - 8, overflow: "truncate", interval: 0 } }),
    dataZoom: [
      { type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: true, minValueSpan: NARROWEST_NS, throttle: 30 },
      {
        type: "slider", filterMode: "none", bottom: 8, height: 22, left, right: 16, minValueSpan: NARROWEST_NS, throttle: 30, showDetail: false,
        showDataShadow: false, brushSelect: false, borderColor: color("line"), fillerColor: "rgba(128,140,160,0.22)",
        handleStyle: { color: color("raised"), borderColor: color("quiet") }, moveHandleStyle: { color: color("quiet") },
      },
    ],
    series: [{ type: "custom", clip: true, progressive: 0, encode: { x: [1, 2], y: 0 }, data: bars, renderItem: (about, api) => rankShape(api, view, bars[about.dataIndex]) }],
  });
  const families = [...new Set(bars.filter((bar) => bar.kind === "work").map((bar) => view.parts[bar.bars.part[bar.at]]?.family ?? DATA.families.indexOf("other")))].sort((a, b) => a - b);
  legend(byId("ranks-legend"), [
    ...families.map((family) => [say(DATA.families[family]), color(DATA.families[family])]),
    [say("transfer"), color("mark")],
    [say("waiting"), `repeating-linear-gradient(135deg, ${color("mark")} 0 1px, ${color("idle")} 1px 4px)`],
  ]);
}

/** A bar; waiting is hatched, and what is of another layer pale. */
function rankShape(api, view, bar) {
  const [x, y] = api.coord([bar.value[1], bar.value[0]]);
  const width = Math.max(0.6, api.coord([bar.value[2], bar.value[0]])[0] - x);
  const tall = RANK_PX * 0.68;
  const top = y - tall / 2;
  const opacity = bar.other ? 0.3 : 1;
  const rect = { type: "rect", shape: { x, y: top, width, height: tall }, style: { fill: rankColor(view, bar), opacity } };
  if (bar.kind !== "waiting" || width < 2) return rect;
  return {
    type: "group",
    children: [rect, { type: "path", silent: true, shape: { pathData: hatch(x, top, width, tall) }, style: { fill: "none", stroke: color("mark"), lineWidth: 1, opacity } }],
  };
}

/** Lines that rise to the right within a box. */
function hatch(x, y, width, height) {
  const step = Math.max(5, width / 150);
  const lines = [`M${x} ${y}L${x + width} ${y}M${x} ${y + height}L${x + width} ${y + height}`];
  for (let at = step - height; at < width; at += step) {
    const [first, last] = [Math.max(0, at), Math.min(width, at + height)];
    lines.push(`M${x + first} ${y + height - (first - at)}L${x + last} ${y + height - (last - at)}`);
  }
  return lines.join("");
}

function rankTip(view, bar) {
  const { bars, at, kind } = bar;
  const layer = bars.layer[at];
  const part = view.parts[bars.part[at]]?.name ?? say("no part");
  const place = [say("rank {number}", { number: view.lines[bar.value[0]].rank }), ...(layer < 0 ? [] : [say("layer {number}", { number: layer })]), part];
  const pairs = [[say("begins"), axisTime(bar.begun, 1e3)]];
  if (kind === "work") {
    pairs.push([say("time"), withUnit(bars.dur[at])]);
    if (bars.count[at] > 1) pairs.push([say("events"), String(bars.count[at])]);
    return tip(listed(place), pairs);
  }
  const waits = bars.waiting[at];
  pairs.push([bars.kind[at], withUnit(bars.dur[at])]);
  if (waits >= 0) pairs.push([say("waiting"), withUnit(waits)], [say("transfer, at most"), withUnit(bars.dur[at] - waits)]);
  return tip(listed(place), pairs);
}

/** What the picture shows, for whoever does not see it: what each rank waits in it. */
function rankWords(view, layer, bars) {
  const waits = view.lines.map((line, at) => {
    const mine = bars.filter((bar) => bar.kind === "waiting" && !bar.other && bar.value[0] === at);
    return say("rank {number} waits {time}", { number: line.rank, time: withUnit(sum(mine.map((bar) => bar.value[2] - bar.value[1]))) });
  });
  const what = layer === "all" ? say("the whole pass") : say("layer {number}", { number: layer });
  return say("All ranks on one time line, {what}: {waits}", { what, waits: listed(waits) });
}

function ranksTable(view) {
  const [work, waiting, most, whose] = [0, 1, 2, 3];
  const names = [...view.parts.map((part) => part.name), say("no part")];
  const rows = view.cells.map((cells, at) => ({ name: names[at], cells })).filter((row) => row.cells.some((one) => one[most]));
  const sums = view.columns.map((_, at) => [sum(rows.map((row) => row.cells[at][work])), sum(rows.map((row) => row.cells[at][waiting])), 0, -1]);
  const wide = view.columns.some(([first, last]) => first !== last);
  const columns = view.columns.map(([first, last], at) => ({
    name: first === last ? say("rank {number} ms", { number: first }) : say("ranks {first} to {last} ms", { first, last }),
    value: (row) => row.cells[at][work] + row.cells[at][waiting],
    cell: (row) => {
      const [spent, waits, highest, rank] = row.cells[at];
      const element = cell(ms(spent), spent);
      if (waits) element.append(make("span", { class: "waits" }, say("+ {time} waiting", { time: ms(waits) })));
      if (wide && rank >= 0) element.append(make("small", {}, say("most {time}, rank {rank}", { time: ms(highest), rank })));
      return element;
    },
  }));
  fillTable(byId("ranks-table"), say("Time of each part on each rank, without waiting"), [
    { name: view.on_device ? say("part, on the device") : say("part, on the CPU"), text: true, cell: (row) => textCell(row.name) }, ...columns,
  ], [...rows, { name: say("all parts"), cells: sums, isSum: true }]);
}
