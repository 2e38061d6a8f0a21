"use strict";
// What all pictures have in common: the charting library, which draws on canvas alone, in the colours
// of the page.

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', Arial, sans-serif";


const drawn = new Map();

// To ask the style for a colour takes longer than to draw a bar.
const colors = new Map();

/** A colour of the page's style, which knows light and dark. */
function color(name) {
  if (!colors.has(name)) {
    colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return colors.get(name);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  colors.clear();
}

const isNarrow = () => document.documentElement.clientWidth < 640;

/** Draws or redraws the chart of the element `id`; `label` is what it shows in words. */
function draw(id, height, label, option) {
  const element = byId(id);
  element.style.height = `${height}px`;
  element.setAttribute("aria-label", label);
  let chart = drawn.get(id);
  if (!chart) {
    chart = echarts.init(element, null, { renderer: "canvas" });
    drawn.set(id, chart);
    new ResizeObserver(() => chart.resize({ animation: { duration: 0 } })).observe(element);
  }
  chart.resize();
  chart.setOption({ ...baseOption(), ...option }, { notMerge: true });
  return chart;
}

function baseOption() {
  return {
    animation: false,
    textStyle: { fontFamily: FONT, fontSize: 12, color: color("text") },
    backgroundColor: "transparent",
  };
}

/** A tooltip whose contents are elements, so that a name in it is never markup. */
function tooltip(contents, more = {}) {
  return {
    confine: true,
    transitionDuration: 0,
    backgroundColor: color("ground"),
    borderColor: color("line"),
    textStyle: { color: color("text"), fontSize: 12 },
    extraCssText: "max-width: 460px",
    formatter: (about) => contents(about) ?? "",
    ...more,
  };
}

function valueAxis(name, more = {}) {
  return {
    type: "value",
    name,
    nameTextStyle: { color: color("quiet"), fontSize: 12 },
    axisLabel: { color: color("quiet"), hideOverlap: true },
    axisLine: { show: false },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: color("line") } },
    ...more,
  };
}

function categoryAxis(data, more = {}) {
  return {
    type: "category",
    data,
    axisLabel: { color: color("quiet") },
    axisLine: { lineStyle: { color: color("line") } },
    axisTick: { show: false },
    ...more,
  };
}

const msAxis = (name, more) =>
  valueAxis(name, { axisLabel: { color: color("quiet"), hideOverlap: true, formatter: (v) => `${Number(v.toPrecision(6))}` }, ...more });

const barAxis = (more) =>
  msAxis("", { splitNumber: 4, axisLabel: { color: color("quiet"), formatter: (v) => `${v} ${axisUnit()}`, hideOverlap: true }, ...more });

/** The label of a bar at the left, cut to the room that there is. */
const nameLabel = (width, text) => ({
  color: color("text"), width: width - 12, overflow: "truncate", interval: 0, formatter: (at) => endOf(text(at), (width - 12) / 6.4),
});

/** Of a path that is too long, the last names: those before them are those of others, too. */
function endOf(path, length) {
  const names = path.split(" / ");
  while (names.length > 1 && names.join(" / ").length > length) names.shift();
  return names.join(" / ");
}

const chartTitle = (text, left, top) => ({
  text, left, top, textStyle: { fontSize: 12, fontWeight: 600, lineHeight: 14, color: color("text"), fontFamily: FONT },
});

const widthOf = (id) => byId(id).clientWidth || 800;

function familyLegend(id, rows) {
  const used = [...new Set(rows.map((row) => row.family))].sort((a, b) => a - b);
  legend(byId(id), used.map((family) => [say(DATA.families[family]), color(DATA.families[family])]));
}
