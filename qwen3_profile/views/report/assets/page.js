"use strict";
// The page: which config is shown, in which colours, and what is drawn again when that changes.

let current = 0;

function choose(index) {
  current = index;
  byId("config").value = String(index);
  show();
  saveLink();
}

/** What dominates in a sentence, the numbers behind it, and what to do next. */
function firstScreen(config) {
  const { sentence, numbers, next } = config.first;
  byId("first-verdict").textContent = sentence;
  byId("first-numbers").replaceChildren(...numbers.map((number) => make("div", {},
    make("dt", {}, number.label),
    make("dd", {}, number.text ?? (number.share === null ? inMs(number.ns) : percent(number.share))))));
  byId("first-next").textContent = next;
}

/** The places of the page that have anything to show. */
function navigation(config) {
  const hidden = { "roofline-figure": byId("roofline-figure").hidden, ways: byId("ways").hidden, experts: byId("experts").hidden, waits: !config.on_device };
  for (const link of byId("nav").querySelectorAll("a")) link.hidden = hidden[link.hash.slice(1)] ?? false;
}

/** Fills the page with the chosen config. */
function show() {
  const config = DATA.configs[current];
  bareNs = config.bare?.median ?? null;
  byId("unit").options[2].disabled = bareNs === null;
  if (bareNs === null && unit === "share") byId("unit").value = unit = "ms";
  byId("headline").textContent = config.headline;
  byId("shown").textContent = `${config.full}. Tables and pictures of parts show ${config.shown}.`;
  for (const [section, sentences] of Object.entries(config.answers)) {
    paragraphs(byId(`${section}-answer`), sentences);
  }
  firstScreen(config);
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
  navigation(config);
}

/** Draws all pictures of the chosen config. */
function pictures() {
  const config = DATA.configs[current];
  configsChart(config);
  scalingChart();
  sweeps();
  passesChart(config);
  stepsChart(config);
  contextsChart(config);
  partsChart(config);
  icicleChart(config);
  rooflineChart(config);
  layersChart(config);
  expertsChart(config);
  if (config.on_device) {
    verdict(config);
    waitsChart(config);
  }
  if (config.kernels) kernelsChart(config, byId("kernels-part").value);
  timelineChart(config);
}

/** Keeps what was chosen where the new config has it, too. */
function refill(id, entries) {
  const before = byId(id).value;
  fill(byId(id), entries, entries.some(([value]) => value === before) ? before : "all");
}

function fillChoices(config) {
  const layerRows = config.rows.flatMap((row, at) => {
    const path = pathOf(config, at);
    return path.includes("layers") && row.name !== "layers" ? [[String(at), fullName(config, row)]] : [];
  });
  refill("layers-part", [["all", "all parts, by kind"], ...layerRows]);
  const rows = config.kernels ? [...new Set(config.kernels.rows.map(([row]) => row))].sort((a, b) => a - b) : [];
  refill("kernels-part", [
    ["all", "all"],
    ...rows.map((row) => [String(row), row < 0 ? "unattributed" : fullName(config, config.rows[row])]),
  ]);
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
  byId("theme").addEventListener("change", () => { applyTheme(); show(); saveLink(); });
  byId("unit").addEventListener("change", (event) => { unit = event.target.value; show(); saveLink(); });
  byId("filter").addEventListener("input", (event) => { setFilter(event.target.value); show(); saveLink(); });
  isDark.addEventListener("change", () => { applyTheme(); show(); });
  fill(byId("scaling-axis"), scalingAxes().map((key) => [key, SCALING[key]]));
  byId("scaling-axis").addEventListener("change", scalingChart);
  byId("layers-part").addEventListener("change", () => { layersChart(DATA.configs[current]); saveLink(); });
  byId("kernels-part").addEventListener("change", (event) => {
    kernelsTable(DATA.configs[current], event.target.value);
    kernelsChart(DATA.configs[current], event.target.value);
    saveLink();
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
  wireIcicle();
  byId("made-by").textContent = `Made by qwen3_profile ${DATA.version}. Charts: Apache ECharts ${echarts.version}. Works offline.`;
}

wire();
wireLinks();
openLink();
// When, in milliseconds since the navigation.
document.documentElement.dataset.ready = String(Math.round(performance.now()));
