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
  const { verdict, sentence, numbers, next } = config.first;
  byId("first-verdict").replaceChildren(
    ...(verdict === null ? [] : [make("strong", {}, say(verdict)), " "]), spoken(sentence));
  byId("first-numbers").replaceChildren(...numbers.map((number) => make("div", {},
    make("dt", {}, spoken(number.label)),
    make("dd", {}, number.text ?? inMs(number.ns)))));
  byId("first-next").replaceChildren(...withFlags(spoken(next)));
}

/** The places of the page that have anything to show. */
function navigation(config) {
  for (const link of byId("nav").querySelectorAll("a")) {
    const place = link.hash.slice(1);
    link.hidden = place === "waits" ? !config.on_device : byId(place).hidden;
  }
}

/** Fills the page with the chosen config. */
function show() {
  const config = DATA.configs[current];
  bareNs = config.bare?.median ?? null;
  byId("unit").options[2].disabled = bareNs === null;
  if (bareNs === null && unit === "share") byId("unit").value = unit = "ms";
  byId("headline").textContent = spoken(config.headline);
  byId("shown").textContent = say("{config}. Tables and pictures of parts show the {pass}.", { config: spoken(config.full), pass: spoken(config.shown) });
  for (const [section, answer] of Object.entries(config.answers)) {
    paragraphs(byId(`${section}-answer`), spoken(answer));
  }
  firstScreen(config);
  findings(config);
  environment(config);
  fillChoices(config);
  byId("waits-body").hidden = !config.on_device;
  byId("kernels-body").hidden = !config.kernels;
  byId("parts-note").textContent =
    say("A part's time includes the parts below it; other: the rest of it. Shares are of the whole pass.");
  byId("layers-note").textContent = layersNote(config);
  byId("kernels-question").textContent = config.kernels?.noun === "operator" ? say("Which operators?") : say("Which kernels?");
  configsTable(config);
  totalsTable(config);
  partsTable(config);
  memory(config);
  outliersTable(config);
  layersTable(config);
  if (config.on_device) waitsTable(config);
  graphTable(config);
  waysTable(config);
  if (config.kernels) kernelsTable(config, byId("kernels-part").value);
  ranksSection(config);
  pictures();
  navigation(config);
}

/** Draws all pictures of the chosen config. */
function pictures() {
  const config = DATA.configs[current];
  configsChart(config);
  scalingChart();
  gridChart(config);
  sweeps();
  passesChart(config);
  stepsChart(config);
  contextsChart(config);
  partsChart(config);
  icicleChart(config);
  rooflineChart(config);
  verdictsTable(config);
  layersChart(config);
  expertsChart(config);
  if (config.on_device) {
    verdict(config);
    waitsChart(config);
  }
  if (config.kernels) kernelsChart(config, byId("kernels-part").value);
  timelineChart(config);
  ranksChart(config);
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
  refill("layers-part", [["all", say("all parts, by kind")], ...layerRows]);
  refill("passes-part", passesChoices(config));
  refill("grid-row", gridChoices(config));
  const rows = config.kernels ? [...new Set(config.kernels.rows.map(([row]) => row))].sort((a, b) => a - b) : [];
  refill("kernels-part", [
    ["all", say("all")],
    ...rows.map((row) => [String(row), row < 0 ? say("unattributed") : fullName(config, config.rows[row])]),
  ]);
}

function findings(config) {
  const items = [
    ...config.warnings.map((message) => ["warning", spoken(message)]),
    ...config.findings.map((finding) => [finding.severity, spoken(finding.message)]),
  ];
  byId("findings").replaceChildren(
    ...(items.length ? [make("h3", {}, say("Warnings and findings")), make("ul", { class: "findings" },
      ...items.map(([severity, message]) => make("li", { class: severity }, make("b", {}, say(severity)), make("span", {}, message))))] : []),
  );
}

function environment(config) {
  byId("environment").replaceChildren(
    ...config.environment.flatMap(([name, value]) => [make("dt", {}, say(name)), make("dd", {}, spoken(value))]),
  );
}

function layersNote(config) {
  if (!config.layers.numbers.length) return "";
  const count = shownOutliers(config).length;
  return sentences([
    spoken(DATA.rule),
    say("Compared: {passes}.", { passes: many(config.layers.compared, "pass") }),
    count > MOST_OUTLIERS ? say("Marked in the chart only: {outliers}.", { outliers: many(count - MOST_OUTLIERS, "smaller outlier") }) : "",
  ]);
}

const isDark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const wanted = byId("theme").value;
  const dark = wanted === "dark" || (wanted === "auto" && isDark.matches);
  setTheme(dark ? "dark" : "light");
}

/** What stands on the page whatever config is shown, in the language that is chosen. */
function applyLanguage() {
  speak(byId("language").value);
  document.title = `${spoken(DATA.title)} - qwen3_profile`;
  fill(byId("config"), DATA.configs.map((config, at) => [String(at), spoken(config.label)]), current);
  const axes = scalingAxes();
  fill(byId("scaling-axis"), axes.map((key) => [key, scalingName(key)]), axes.includes(byId("scaling-axis").value) ? byId("scaling-axis").value : axes[0]);
  byId("made-by").textContent = say("Made by qwen3_profile {version}. Charts: Apache ECharts {charts}. Works offline.", { version: DATA.version, charts: echarts.version });
}

function wire() {
  byId("language").value = language;

  byId("config-choice").hidden = DATA.configs.length < 2;
  byId("config").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("theme").addEventListener("change", () => { applyTheme(); show(); saveLink(); });
  byId("language").addEventListener("change", () => { applyLanguage(); show(); saveLink(); });
  byId("unit").addEventListener("change", (event) => { unit = event.target.value; show(); saveLink(); });
  byId("filter").addEventListener("input", (event) => { setFilter(event.target.value); show(); saveLink(); });
  isDark.addEventListener("change", () => { applyTheme(); show(); });

  byId("scaling-axis").addEventListener("change", scalingChart);
  byId("passes-part").addEventListener("change", () => { passesChart(DATA.configs[current]); saveLink(); });
  byId("grid-row").addEventListener("change", () => { gridChart(DATA.configs[current]); saveLink(); });
  byId("layers-part").addEventListener("change", () => { layersChart(DATA.configs[current]); saveLink(); });
  byId("ranks-layer").addEventListener("change", () => { ranksChart(DATA.configs[current]); saveLink(); });
  byId("kernels-part").addEventListener("change", (event) => {
    kernelsTable(DATA.configs[current], event.target.value);
    kernelsChart(DATA.configs[current], event.target.value);
    saveLink();
  });
  matchMedia("(max-width: 639px)").addEventListener("change", pictures);
  // Paper is white, and narrower than the window.
  addEventListener("beforeprint", () => {
    setTheme("light");
    for (const id of ["environment", "memory", "sweeps"]) byId(`${id}-details`).open = true;
    show();
    // The bars of the time line wait for the next frame, which comes after the paper.
    drawn.get("timeline-chart")?.setOption({});
  });
  addEventListener("afterprint", () => { applyTheme(); show(); });
  wireTimeline();
  wireIcicle();

}

wire();
wireLinks();
openLink();
// When, in milliseconds since the navigation.
document.documentElement.dataset.ready = String(Math.round(performance.now()));
