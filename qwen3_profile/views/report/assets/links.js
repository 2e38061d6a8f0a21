"use strict";
// What is shown in, the address of it out, and back: config, part, layer, unit, filter, theme and
// language.

// The key of each in the address, the element that has it, and its usual value.
const LINKED = {
  config: ["config", "0"], part: ["layers-part", "all"], kernels: ["kernels-part", "all"],
  passes: ["passes-part", "all"], grid: ["grid-row", "all"],
  layer: ["timeline-layer", ""], ranks: ["ranks-layer", ""], unit: ["unit", "ms"], filter: ["filter", ""], theme: ["theme", "auto"],
  lang: ["language", firstLanguage()],
};

// With which layer the view of ranks begins, each config says.
const usual = (key) => (key === "ranks" ? usualRankLayer(DATA.configs[current]) : LINKED[key][1]);

let section = "";

/** Keeps the address of what is shown; a frame without an address of its own has none. */
function saveLink() {
  const chosen = Object.entries(LINKED).filter(([key, [id]]) => byId(id).value !== usual(key));
  const words = [section, ...chosen.map(([key, [id]]) => `${key}=${encodeURIComponent(byId(id).value)}`)];
  try {
    history.replaceState(null, "", `#${words.filter(Boolean).join("&")}`);
  } catch {
    // The page is in a frame that may not.
  }
}

/** Shows what the address says. */
function openLink() {
  const address = location.hash.slice(1) || document.documentElement.dataset.start;
  const [place, ...words] = address.split("&");
  const given = new URLSearchParams((place.includes("=") ? [place, ...words] : words).join("&"));
  const value = (key) => given.get(key) ?? usual(key);
  setIfKnown(byId("language"), value("lang"));
  applyLanguage();
  for (const key of ["config", "unit", "filter", "theme"]) setIfKnown(byId(LINKED[key][0]), value(key));

  current = Number(byId("config").value);
  unit = byId("unit").value;
  setFilter(byId("filter").value);
  applyTheme();
  fillChoices(DATA.configs[current]);
  for (const key of ["part", "kernels", "passes", "grid"]) setIfKnown(byId(LINKED[key][0]), value(key));
  show();
  if (DATA.configs[current].timeline && given.has("layer")) {
    setIfKnown(byId("timeline-layer"), value("layer"));
    showLayer(byId("timeline-layer").value);
  }
  if (rankView(DATA.configs[current])) {
    setIfKnown(byId("ranks-layer"), value("ranks"));
    ranksChart(DATA.configs[current]);
  }
  if (!place.includes("=") && byId(place)) goTo(place);
}

function setIfKnown(element, value) {
  if (!element.options || [...element.options].some((option) => option.value === value)) element.value = value;
}

/** Scrolls to a place of the page, and puts the keyboard there. */
function goTo(id) {
  section = id;
  const place = byId(id);
  if (place.tagName === "DETAILS") place.open = true;
  if (!place.hasAttribute("tabindex")) place.tabIndex = -1;
  place.scrollIntoView();
  place.focus({ preventScroll: true });
}

function setFilter(text) {
  query = text.toLowerCase().split(/\s+/).filter(Boolean);
}

function wireLinks() {
  for (const link of document.querySelectorAll(".skip, #nav a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      goTo(link.hash.slice(1));
      saveLink();
    });
  }
  byId("timeline-layer").addEventListener("change", saveLink);
  addEventListener("hashchange", openLink);
}
