"use strict";
// The page: which config is shown, in which colours, and what is drawn again when that changes.

let current = 0;

function choose(index) {
  current = index;
  byId("config").value = String(index);
  show();
}

/** Fills the page with the chosen config. */
function show() {
  const config = DATA.configs[current];
  byId("headline").textContent = config.headline;
  byId("shown").textContent = `${config.full}. Tables and pictures of parts show ${config.shown}.`;
  for (const [section, sentences] of Object.entries(config.answers)) {
    paragraphs(byId(`${section}-answer`), sentences);
  }
  findings(config);
  environment(config);
  fillChoices(config);
  byId("waits-body").hidden = !config.on_device;
  byId("kernels-body").hidden = !config.kernels;
  byId("parts-note").textContent =
    "A part's time includes the parts below it; other: the rest of it. Shares are of the whole pass.";
  byId("layers-note").textContent = layersNote(config);
  byId("kernels-question").textContent = config.kernels?.noun === "operator" ? "Which operators?" : "Which kernels?";
  configsTable(config);
  totalsTable(config);
  partsTable(config);
  outliersTable(config);
  layersTable(config);
  if (config.on_device) waitsTable(config);
  graphTable(config);
  waysTable(config);
  if (config.kernels) kernelsTable(config, byId("kernels-part").value);
  pictures();
}

/** Draws all pictures of the chosen config. */
function pictures() {
  const config = DATA.configs[current];
  configsChart(config);
  scalingChart();
  stepsChart(config);
  contextsChart(config);
  partsChart(config);
  layersChart(config);
  if (config.on_device) {
    verdict(config);
    waitsChart(config);
  }
  if (config.kernels) kernelsChart(config, byId("kernels-part").value);
  timelineChart(config);
}

function fillChoices(config) {
  const layerRows = config.rows.flatMap((row, at) => {
    const path = pathOf(config, at);
    return path.includes("layers") && row.name !== "layers" ? [[String(at), fullName(config, row)]] : [];
  });
  fill(byId("layers-part"), [["all", "all parts, by kind"], ...layerRows], "all");
  const rows = config.kernels ? [...new Set(config.kernels.rows.map(([row]) => row))].sort((a, b) => a - b) : [];
  fill(byId("kernels-part"), [
    ["all", "all"],
    ...rows.map((row) => [String(row), row < 0 ? "unattributed" : fullName(config, config.rows[row])]),
  ], "all");
}

function findings(config) {
  const items = [
    ...config.warnings.map((message) => ["warning", message]),
    ...config.findings.map((finding) => [finding.severity, finding.message]),
  ];
  byId("findings").replaceChildren(
    ...(items.length ? [make("h3", {}, "Warnings and findings"), make("ul", { class: "findings" },
      ...items.map(([severity, message]) => make("li", { class: severity }, make("b", {}, severity), make("span", {}, message))))] : []),
  );
}

function environment(config) {
  byId("environment").replaceChildren(
    ...config.environment.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

function layersNote(config) {
  if (!config.layers.numbers.length) return "";
  const count = shownOutliers(config).length;
  const more = count > MOST_OUTLIERS ? ` ${count - MOST_OUTLIERS} smaller outliers are marked in the chart only.` : "";
  return `${DATA.rule} Compared: ${many(config.layers.compared, "pass").replace("passs", "passes")}.${more}`;
}

const isDark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const wanted = byId("theme").value;
  const dark = wanted === "dark" || (wanted === "auto" && isDark.matches);
  setTheme(dark ? "dark" : "light");
}

function wire() {
  fill(byId("config"), DATA.configs.map((config, at) => [String(at), config.label]), 0);
  byId("config-choice").hidden = DATA.configs.length < 2;
  byId("config").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("theme").addEventListener("change", () => { applyTheme(); show(); });
  isDark.addEventListener("change", () => { applyTheme(); show(); });
  fill(byId("scaling-axis"), scalingAxes().map((key) => [key, SCALING[key]]));
  byId("scaling-axis").addEventListener("change", scalingChart);
  byId("layers-part").addEventListener("change", () => layersChart(DATA.configs[current]));
  byId("kernels-part").addEventListener("change", (event) => {
    kernelsTable(DATA.configs[current], event.target.value);
    kernelsChart(DATA.configs[current], event.target.value);
  });
  matchMedia("(max-width: 639px)").addEventListener("change", pictures);
  // Paper is white, and narrower than the window.
  addEventListener("beforeprint", () => {
    setTheme("light");
    byId("environment-details").open = true;
    show();
  });
  addEventListener("afterprint", () => { applyTheme(); show(); });
  wireTimeline();
  byId("made-by").textContent = `Made by qwen3_profile ${DATA.version}. Charts: Apache ECharts ${echarts.version}. Works offline.`;
}

applyTheme();
wire();
show();
// When, in milliseconds since the navigation.
document.documentElement.dataset.ready = String(Math.round(performance.now()));
