"use strict";
// The pass as a tree in, one picture of all of its levels out: phase, layers, parts, kernels.

const LEVEL_PX = 30;

let icicle = { config: null, kind: "", root: null, language: "" };

/** A tree of nodes {name, value, family, parent, children} from leaves with their paths. */
function treeOf(name, leaves) {
  const root = { name, value: 0, family: -1, parent: null, children: new Map() };
  for (const { path, value, family } of leaves) {
    if (!value) continue;
    let node = root;
    node.value += value;
    for (const [depth, step] of path.entries()) {
      if (!node.children.has(step)) {
        node.children.set(step, { name: step, value: 0, family: depth || path.length < 3 ? family : -1, parent: node, children: new Map() });
      }
      node = node.children.get(step);
      if (node.family !== family) node.family = -1;
      node.value += value;
    }
  }
  return root;
}

/** The path of a row's time in a layer, or outside of them: `layer 3`, `attn`, `q_proj`. */
function placeIn(config, row, layer) {
  const path = pathOf(config, row);
  const at = path.indexOf("layers");
  if (layer < 0 || at < 0) return path.slice(path.length > 1 ? 1 : 0);
  return [`layer ${layer}`, ...path.slice(1, at), ...path.slice(at + 1)];
}

function leavesOf(config, kind) {
  const { numbers, columns } = config.layers;
  const leaf = (row, layer, value, ...more) => ({
    path: [...placeIn(config, row, layer), ...more], value, family: config.rows[row].family,
  });
  if (kind === "cuda" && config.launched.length) {
    return config.launched.map(([row, layer, name, ns]) => (row < 0
      ? { path: [say("unattributed"), shortName(DATA.names[name])], value: ns, family: DATA.families.indexOf("other") }
      : leaf(row, layer, ns, shortName(DATA.names[name]))));
  }
  const key = kind === "cuda" ? "device_ns" : "cpu_ns";
  const outside = config.rows.flatMap((row, at) => (
    row.leaf && !pathOf(config, at).includes("layers") ? [leaf(at, -1, row[key])] : []));
  const inside = numbers.flatMap((number, layer) => columns.map((row, column) => leaf(row, number, config.layers[kind][layer][column])));
  return [...outside, ...inside];
}

function icicleChart(config) {
  const select = byId("icicle-kind");
  const kinds = config.on_device ? [["cuda", say("GPU time")], ["cpu", say("CPU time")]] : [["cpu", say("CPU time")]];
  if (icicle.config !== config) fill(select, kinds, kinds[0][0]);
  else if (icicle.language !== language) fill(select, kinds, select.value);
  if (icicle.config !== config || icicle.kind !== select.value || icicle.language !== language) {
    icicle = { config, kind: select.value, language, root: treeOf(config.rows[0].name, leavesOf(config, select.value)) };
  }
  byId("icicle").hidden = !icicle.root.value;
  if (icicle.root.value) drawIcicle();
}

/** What is drawn: nodes with their level, and where they begin, as far as there is room. */
function boxesOf(root, least) {
  const boxes = [];
  const walk = (node, depth, from) => {
    boxes.push({ node, depth, from });
    let at = from;
    for (const child of inOrder(node)) {
      if (child.value >= least) walk(child, depth + 1, at);
      at += child.value;
    }
  };
  walk(root, 0, 0);
  return boxes;
}

/** Layers by their numbers, then all else by its time. */
function inOrder(node) {
  const number = (child) => (/^layer \d+$/.test(child.name) ? Number(child.name.slice(6)) : Infinity);
  return [...node.children.values()].sort((a, b) => (
    number(a) === number(b) ? b.value - a.value : number(a) - number(b)));
}

function drawIcicle() {
  const { root, config } = icicle;
  const boxes = boxesOf(root, root.value / (2 * widthOf("icicle-chart")));
  const levels = 1 + Math.max(...boxes.map((box) => box.depth));
  const whole = wholeOf(root).value;
  const option = {
    grid: { left: 0, right: 0, top: 0, height: levels * LEVEL_PX },
    tooltip: tooltip((about) => {
      const { node } = boxes[about.dataIndex];
      return tip(placeOf(node), [
        [say("time"), withUnit(node.value)], [say("of the pass"), percent(node.value / whole)], [say("of what is shown"), percent(node.value / root.value)],
      ]);
    }),
    xAxis: { type: "value", min: 0, max: root.value, show: false },
    yAxis: { type: "value", min: 0, max: levels, inverse: true, show: false },
    series: [{
      type: "custom", data: boxes.map((box) => [box.from, box.from + box.node.value, box.depth]), encode: { x: [0, 1], y: 2 }, cursor: "pointer",
      renderItem: (about, api) => boxShape(api, boxes[about.dataIndex]),
    }],
  };
  const chart = draw("icicle-chart", levels * LEVEL_PX + 4, say("Tree of {kind}", { kind: byId("icicle-kind").selectedOptions[0].textContent }), option);
  chart.off("click");
  chart.on("click", (about) => showNode(boxes[about.dataIndex].node === root ? root.parent ?? root : boxes[about.dataIndex].node));
  const largest = [...root.children.values()].sort((a, b) => b.value - a.value).slice(0, 3);
  const told = listed(largest.map((node) => `${titleOf(node)} ${percent(node.value / root.value)}`));
  byId("icicle-place").textContent = sentences([
    say("{place}: {time}, {share} of the pass.", { place: placeOf(root), time: withUnit(root.value), share: percent(root.value / whole) }),
    told ? say("Largest: {names}.", { names: told }) : "",
  ]);
  byId("icicle-up").disabled = !root.parent;
  byId("icicle-chart").dataset.root = namesOf(root).join("/");
  familyLegend("icicle-legend", config.rows.filter((row) => row.leaf));
}

function boxShape(api, { node }) {
  const [x, y] = api.coord([api.value(0), api.value(2)]);
  const width = api.coord([api.value(1), 0])[0] - x;
  const fill = node.family < 0 ? color("raised") : color(DATA.families[node.family]);
  const room = Math.max(0, width - 8);
  const name = room < 44 ? node.name.replace(/^layer /, "") : titleOf(node);
  return {
    type: "rect", shape: { x, y, width: Math.max(0.5, width - 0.75), height: LEVEL_PX - 1.5 },
    style: { fill, stroke: color("line"), lineWidth: node.family < 0 ? 1 : 0 },
    textContent: {
      type: "text", style: { text: room > (name === titleOf(node) ? 26 : 12) ? name : "", fill: node.family < 0 ? color("text") : color("on-bar"), font: `11px ${FONT}`, width: room, overflow: "truncate" },
    },
    textConfig: { position: "insideLeft", distance: 4 },
  };
}

const namesOf = (node) => (node.parent ? [...namesOf(node.parent), node.name] : [node.name]);

/** A node's name as it is shown: parts and kernels keep theirs. */
const titleOf = (node) => (/^layer \d+$/.test(node.name) ? say("layer {number}", { number: node.name.slice(6) }) : node.name);

const placeOf = (node) => (node.parent ? `${placeOf(node.parent)} / ${titleOf(node)}` : titleOf(node));


const wholeOf = (node) => (node.parent ? wholeOf(node.parent) : node);

function showNode(node) {
  if (!node) return;
  icicle.root = node;
  drawIcicle();
}

/** The node beside one, the first after the last. */
function besides(node, step) {
  if (!node.parent) return node;
  const all = inOrder(node.parent);
  return all[(all.indexOf(node) + step + all.length) % all.length];
}

function wireIcicle() {
  byId("icicle-kind").addEventListener("change", () => icicleChart(DATA.configs[current]));
  byId("icicle-up").addEventListener("click", () => showNode(icicle.root.parent));
  const keys = {
    ArrowUp: (node) => node.parent, Escape: (node) => node.parent,
    ArrowDown: (node) => [...node.children.values()].sort((a, b) => b.value - a.value)[0],
    ArrowLeft: (node) => besides(node, -1), ArrowRight: (node) => besides(node, 1),
  };
  byId("icicle-chart").addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    showNode(keys[event.key](icicle.root));
    event.preventDefault();
  });
}
