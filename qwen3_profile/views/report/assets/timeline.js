"use strict";
// One forward pass in, its time line out. Only what can be told apart at the present zoom is given
// to the charting library: bars of less than two pixels that touch are drawn as one.

const LANE_PX = 26;
const QUEUE_PX = 64;
const NARROWEST_NS = 1000;


let view = null;

function timelineChart(config) {
  byId("timeline-body").hidden = !config.timeline;
  if (!config.timeline) return;
  const lanes = unpack(config);
  const left = isNarrow() ? 76 : 150;
  const height = LANE_PX * lanes.length;
  const { queue } = config.timeline;
  const hasQueue = queue.step.length > 0;
  // Drawn again, as in other colours, it shows what it showed.
  const before = view && view.config === config ? view : null;
  const shown = { config, lanes, from: 0, to: config.timeline.span, left, queue: hasQueue ? unpackQueue(queue, config.timeline.span) : null };
  view = shown;
  const names = laneNames(lanes);
  const grid = [{ left, right: 16, top: 22, height }];
  if (hasQueue) grid.push({ left, right: 16, top: 22 + height + 30, height: QUEUE_PX });
  const bottom = 22 + height + (hasQueue ? 30 + QUEUE_PX : 0);
  const timeAxis = (at) => valueAxis("", {
    gridIndex: at, min: 0, max: config.timeline.span, position: at ? "bottom" : "top",
    axisLabel: { show: at === 0, color: color("quiet"), hideOverlap: true, formatter: axisLabel },
    splitLine: { show: true, lineStyle: { color: color("line") } },
    axisPointer: { show: false },
  });
  const chart = draw("timeline-chart", bottom + 64, say("Time line of one forward pass"), {
    grid,
    tooltip: tooltip((about) => (about.seriesId === "bars" ? barTip(about.value) : queueTip(about)), { trigger: "item" }),
    xAxis: grid.map((_, at) => timeAxis(at)),
    yAxis: [
      categoryAxis(names, { inverse: true, axisLabel: { color: color("text"), width: left - 12, overflow: "truncate", interval: 0 }, splitLine: { show: false } }),
      ...(hasQueue ? [valueAxis("", { gridIndex: 1, min: 0, minInterval: 1, splitNumber: 2, axisLabel: { color: color("quiet") } })] : []),
    ],
    dataZoom: [
      { type: "inside", xAxisIndex: grid.map((_, at) => at), filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: true, minValueSpan: NARROWEST_NS, throttle: 30 },
      {
        type: "slider", xAxisIndex: grid.map((_, at) => at), filterMode: "none", bottom: 8, height: 22, left, right: 16, minValueSpan: NARROWEST_NS,
        throttle: 30, showDetail: false, showDataShadow: false, brushSelect: false, borderColor: color("line"), fillerColor: "rgba(128,140,160,0.22)",
        handleStyle: { color: color("raised"), borderColor: color("quiet") }, moveHandleStyle: { color: color("quiet") },
      },
    ],
    series: [
      { id: "bars", type: "custom", xAxisIndex: 0, yAxisIndex: 0, clip: true, renderItem: (_, api) => barShape(api, shown), data: [], encode: { x: [1, 2], y: 0 } },
      ...(hasQueue ? [{
        id: "queue", type: "line", step: "end", xAxisIndex: 1, yAxisIndex: 1, symbol: "none", triggerLineEvent: true,
        lineStyle: { width: 1.2, color: color("launch") }, areaStyle: { color: color("launch"), opacity: 0.25 }, data: [],
      }] : []),
    ],
    ...(hasQueue ? {
      title: [{ text: say("in flight"), left: -5, top: 22 + height + 42, textStyle: { fontSize: 12, fontWeight: 400, color: color("text"), fontFamily: FONT } }],
    } : {}),
  });
  chart.off("datazoom");
  chart.on("datazoom", (event) => {
    const window = event.batch?.[0] ?? event;
    byId("timeline-layer").value = "";
    const { span } = config.timeline;
    showWindow((span * window.start) / 100, (span * window.end) / 100);
  });
  familyLegend("timeline-legend", config.rows.filter((row) => row.leaf));
  timelineNote(config);
  const choices = [["", say("all")], ...config.layers.numbers.map((n) => [String(n), String(n)])];
  fill(byId("timeline-layer"), choices, before ? byId("timeline-layer").value : "");
  if (before) return zoomTo(before.from, before.to);
  showWindow(0, config.timeline.span);
}

/** The ends of what is shown are no round times, but for the start of the pass. */
function axisLabel(ns) {
  const isEnd = ns >= view.to || (ns <= view.from && ns > 0);
  return isEnd ? "" : axisTime(ns, (view.to - view.from) / 8);
}

function laneNames(lanes) {
  const seen = new Map();
  const threads = new Set(lanes.filter((lane) => lane.kind === "labels").map((lane) => lane.title));
  return lanes.map((lane) => {
    if (lane.kind !== "labels") return lane.title;
    const level = seen.get(lane.title) ?? 0;
    seen.set(lane.title, level + 1);
    const name = levelName(level);
    return threads.size > 1 ? `${name}, ${lane.title}` : name;
  });
}

const levelName = (level) =>
  [say("CPU pass"), say("CPU layer"), say("CPU block"), say("CPU part")][level] ?? say("CPU level {level}", { level });

/** Shows the bars between two times, of the pass's own clock; `more` goes to the library too. */
function showWindow(from, to, more = {}) {
  view.from = from;
  view.to = to;
  const width = Math.max(200, byId("timeline-chart").clientWidth - view.left - 16);
  const pixel = (to - from) / width;
  const data = view.lanes.flatMap((lane, at) => visibleBars(lane, at, from, to, 3 * pixel));
  const series = [{ id: "bars", data }];
  if (view.queue) series.push({ id: "queue", data: visibleQueue(from, to) });
  drawn.get("timeline-chart").setOption({ ...more, series }, { lazyUpdate: true });
  byId("timeline-chart").dataset.from = String(Math.round(from));
  byId("timeline-chart").dataset.to = String(Math.round(to));
  byId("timeline-window").textContent = say("Shown: {from} to {to}.", { from: ms(from), to: withUnit(to) });
}

/**
 * A bar; one that stands for several is as high as the share of its length that they fill.
 *
 * shown: what it is part of, which need not be `view`: the library may still draw what was shown.
 */
function barShape(api, shown) {
  const lane = shown.lanes[api.value(0)];
  const from = api.coord([Math.max(api.value(1), shown.from), api.value(0)]);
  const to = api.coord([Math.min(api.value(2), shown.to), api.value(0)]);
  const room = to[0] - from[0];
  const width = Math.max(1, room - (room > 4 ? 1 : 0));
  const height = LANE_PX - 6;
  const share = api.value(6);
  const fill = color(DATA.families[api.value(5)]);
  const box = (part, opacity) => ({
    type: "rect",
    shape: { x: from[0], y: from[1] + height / 2 - height * part, width, height: height * part },
    style: { fill, opacity },
  });
  if (share < 1) {
    return { type: "group", children: [box(1, 0.16), box(Math.max(share, 1 / height), 1)] };
  }
  const text = api.value(3) === api.value(4) ? fittingName(lane, api.value(3), width) : "";
  // Also where it is empty, for the library keeps what the shape said at another zoom.
  const textContent = { type: "text", style: { text, fill: color("on-bar"), font: `11px ${FONT}` } };
  return { ...box(1, 1), textContent, textConfig: { position: "insideLeft", distance: 5 } };
}

/** The name, or a shorter one, or none: never a torn one. */
function fittingName(lane, i, width) {
  const name = barName(lane, i);
  const short = lane.layer[i] >= 0 && name === say("layer {number}", { number: lane.layer[i] }) ? String(lane.layer[i]) : "";
  // A Chinese character is as wide as two others.
  const room = (text) => 6.3 * (text.length + text.replace(/[^\u4e00-\u9fff]/g, "").length) + 10;
  return [name, short].find((text) => room(text) < width) ?? "";
}

/** What a bar is called: a label by its part and layer, a device event by its kernel. */
function barName(lane, i) {
  if (lane.count[i] > 1) return lane.kind === "labels" ? many(lane.count[i], "label") : many(lane.count[i], "event");
  if (lane.kind !== "labels" || lane.name[i] >= 0) return shortName(DATA.names[lane.name[i]] ?? "");
  const row = lane.rows[lane.part[i]];
  return row.name === "layers" ? say("layer {number}", { number: lane.layer[i] }) : row.name;
}

function barTip([at, start, end, first, last]) {
  const lane = view.lanes[at];
  if (first !== last) {
    let work = 0;
    let count = 0;
    for (let i = first; i <= last; i++) {
      work += lane.work[i] || lane.dur[i];
      count += lane.count[i];
    }
    const what = lane.kind === "labels" ? many(count, "label") : many(count, "device event");
    return tip(say("{events}; zoom in to separate them", { events: what }), [
      [say("from"), `${withUnit(start)}`], [say("to"), `${withUnit(end)}`], [say("total"), `${withUnit(work)}`],
    ]);
  }
  const i = first;
  const row = lane.part[i] < 0 ? null : lane.rows[lane.part[i]];
  const launch = lane.launch[i];
  const title = lane.count[i] > 1 ? barName(lane, i)
    : lane.kind === "labels" ? barName(lane, i) : cut(DATA.names[lane.name[i]] ?? "", 220);
  return tip(title, [
    [say("part"), row ? listed([lane.layer[i] >= 0 ? say("layer {number}", { number: lane.layer[i] }) : "", fullName(view.config, row)].filter(Boolean)) : say("unattributed")],
    [say("takes"), lane.dur[i] >= 1e5 ? `${withUnit(lane.dur[i])}` : `${(lane.dur[i] / 1e3).toFixed(3)} \u00b5s`],
    [say("total"), lane.count[i] > 1 ? `${withUnit(lane.work[i])}` : null],
    [say("starts at"), `${withUnit(lane.start[i])}`],
    [say("after its launch"), launch === null ? null : `${(launch / 1e3).toFixed(3)} \u00b5s`],
    [say("launched by"), lane.op[i] >= 0 ? DATA.names[lane.op[i]] : null],
  ]);
}

const queueTip = () => tip(say("launches in flight"), [[say("at most"), many(view.config.timeline.queue.deepest, "device event")]]);

function timelineNote(config) {
  const { events, bars, queue, slower } = config.timeline;
  const device = config.on_device;
  const number = device ? say("{count} labels and device events", { count: events.toLocaleString("en-US") }) : many(events, "label");

  byId("timeline-caption").textContent = !device ? say("CPU labels.") : sentences([
    say("CPU labels above, GPU lanes below, coloured by the part that launched them."),
    slower
      ? say("From two passes: device events keep their durations and are aligned to the faster clock pass; where the GPU was waiting, an event starts as long after its launch as in the traced pass.")
      : say("At the bottom, the number of launches in flight."),
  ]);
  byId("timeline-note").textContent = sentences([
    bars < events
      ? say("{events}, drawn as {bars}: close neighbours of the same part are merged, none left out.", { events: number, bars: many(bars, "bar") })
      : say("{events}.", { events: number }),
    config.rows.some((row) => row.name === "backward")
      ? say("Autograd nodes carry no CPU labels; their device events have the colour of their part.")
      : "",
    say("Bars too close to tell apart are drawn as one, as high as the share of its length they fill."),
    device && !slower && !queue.joined ? say("The launches in flight are drawn change by change.") : "",
    device && !slower && queue.joined ? say("The launches in flight change too often to be drawn one by one; averages are shown.") : "",
    device && !slower ? say("Gaps in the GPU lanes and a line at 0: launch-bound. Full lanes and a high line: GPU-bound.") : "",
    device && slower ? say("Gaps in the GPU lanes: it waits. Full lanes: GPU-bound.") : "",
  ]);

}

/** Zooms by a factor round the middle, or moves by a share of what is shown. */
function zoom(factor, move = 0) {
  const { span } = view.config.timeline;
  const width = Math.min(span, Math.max(NARROWEST_NS, (view.to - view.from) * factor));
  const middle = (view.from + view.to) / 2 + move * (view.to - view.from);
  const from = Math.min(Math.max(0, middle - width / 2), span - width);
  byId("timeline-layer").value = "";
  zoomTo(from, from + width);
}

function zoomTo(from, to) {
  const window = { startValue: from, endValue: to };
  showWindow(from, to, { dataZoom: [window, window] });
}

function showLayer(number) {
  if (number === "") return zoomTo(0, view.config.timeline.span);
  const wanted = Number(number);
  let from = Infinity;
  let to = -Infinity;
  for (const lane of view.lanes) {
    lane.layer.forEach((layer, i) => {
      if (layer !== wanted) return;
      from = Math.min(from, lane.start[i]);
      to = Math.max(to, lane.start[i] + lane.dur[i]);
    });
  }
  if (from < to) zoomTo(from, Math.min(to, view.config.timeline.span));
}

function wireTimeline() {
  byId("timeline-in").addEventListener("click", () => zoom(0.5));
  byId("timeline-out").addEventListener("click", () => zoom(2));
  byId("timeline-left").addEventListener("click", () => zoom(1, -0.4));
  byId("timeline-right").addEventListener("click", () => zoom(1, 0.4));
  byId("timeline-all").addEventListener("click", () => zoom(Infinity));
  byId("timeline-layer").addEventListener("change", (event) => showLayer(event.target.value));
  const keys = {
    "+": [0.5], "=": [0.5], "-": [2], ArrowUp: [0.5], ArrowDown: [2], ArrowLeft: [1, -0.2], ArrowRight: [1, 0.2],
  };
  byId("timeline-chart").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0") zoom(Infinity);
    else if (keys[event.key]) zoom(...keys[event.key]);
    else return;
    event.preventDefault();
  });
}
