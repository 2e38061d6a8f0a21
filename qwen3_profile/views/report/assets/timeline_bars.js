"use strict";
// What of a time line is seen between two times: its bars, those too close to tell apart as one, and the
// events in flight.

/** The lanes with running starts; what the file left out is filled in. */
function unpack(config) {
  return config.timeline.lanes.map((lane) => {
    const count = lane.start.length;
    const column = (key, usual) => lane[key] ?? new Array(count).fill(usual);
    const start = [];
    let at = 0;
    for (const step of lane.start) start.push((at += step));
    const reach = [];
    let end = -Infinity;
    for (let i = 0; i < count; i++) reach.push((end = Math.max(end, start[i] + lane.dur[i])));
    return {
      rows: config.rows, kind: lane.kind, title: spoken(lane.title), start, reach, dur: lane.dur, part: lane.part,
      layer: column("layer", -1), name: column("name", -1), op: column("op", -1),
      launch: column("launch", null), count: column("count", 1), work: column("work", 0),
    };
  });
}

/** When the number of events in flight changes, from which time on it is what, and its integral. */
function unpackQueue(queue, span) {
  const time = [0];
  const depth = [0];
  const area = [0];
  queue.step.forEach((step, i) => {
    time.push(time[i] + step);
    area.push(area[i] + step * depth[i]);
    depth.push(queue.depth[i]);
  });
  area.push(area[area.length - 1] + (span - time[time.length - 1]) * depth[depth.length - 1]);
  time.push(span);
  depth.push(0);
  return { time, depth, area };
}

const STRETCHES = 500;

/** The events in flight between two times: each change, or the means of stretches if too many. */
function visibleQueue(from, to) {
  const { time, depth } = view.queue;
  const first = Math.max(0, firstAfter(time, from) - 1);
  const last = Math.min(time.length - 1, firstAfter(time, to));
  if (last - first <= STRETCHES) {
    const points = [];
    for (let i = first; i <= last; i++) points.push([time[i], depth[i]]);
    return points;
  }
  const edge = (i) => from + ((to - from) * i) / STRETCHES;
  return Array.from({ length: STRETCHES + 1 }, (_, i) => {
    const [begin, end] = [edge(Math.min(i, STRETCHES - 1)), edge(Math.min(i, STRETCHES - 1) + 1)];
    return [edge(i), (areaUpTo(end) - areaUpTo(begin)) / (end - begin)];
  });
}

function areaUpTo(at) {
  const { time, depth, area } = view.queue;
  const i = Math.max(0, firstAfter(time, at) - 1);
  return area[i] + (at - time[i]) * depth[i];
}

/** [lane, start, end, first bar, last bar, family, share at work] of each shape to draw. */
function visibleBars(lane, at, from, to, least) {
  const found = [];
  let i = firstAfter(lane.reach, from);
  while (i < lane.start.length && lane.start[i] < to) {
    const first = i++;
    const { start, dur } = lane;
    let end = start[first] + dur[first];
    // Until the shape is wide enough to be seen, what follows closely is part of it.
    while (i < start.length && end - start[first] < least && start[i] - end < least && dur[i] < least) {
      end = Math.max(end, lane.reach[i++]);
    }
    found.push([at, start[first], end, first, i - 1, mainFamily(lane, first, i - 1), atWork(lane, first, i - 1, end)]);
  }
  return found;
}

/** The share of its length in which a shape that stands for several bars is at work. */
function atWork(lane, first, last, end) {
  if (first === last && lane.count[first] === 1) return 1;
  let work = 0;
  for (let i = first; i <= last; i++) work += lane.work[i] || lane.dur[i];
  return Math.min(1, work / Math.max(1, end - lane.start[first]));
}

/** The first position whose value is beyond `value`; `values` never fall. */
function firstAfter(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The family that most of the time of some bars belongs to. */
function mainFamily(lane, first, last) {
  const other = DATA.families.length - 1;
  const family = (i) => (lane.part[i] < 0 ? other : lane.rows[lane.part[i]].family);
  if (first === last) return family(first);
  const time = new Array(DATA.families.length).fill(0);
  for (let i = first; i <= last; i++) time[family(i)] += lane.dur[i];
  return time.indexOf(Math.max(...time));
}
