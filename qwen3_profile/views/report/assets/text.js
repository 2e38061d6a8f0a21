"use strict";
// Data in, text and elements out. What comes from a trace becomes text nodes, never markup.

const DATA = JSON.parse(document.getElementById("data").textContent);

const byId = (id) => document.getElementById(id);

/** An element with properties and children; strings among these are text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === "class") element.className = value;
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

const known = (values) => values.filter((value) => value !== null && value !== undefined);

/** The q-quantile, linear between ranks, as the summary has it. */
function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

const median = (values) => quantile(values, 0.5);

// In which unit times are shown: "ms", "us", or "share", of the bare pass of the config shown.
let unit = "ms";
let bareNs = null;

const unitName = () => ({ ms: "ms", us: "\u00b5s", share: say("% of bare") })[unit];

/** The same beside the figures of an axis, where there is little room. */
const axisUnit = () => (unit === "share" ? "%" : unitName());

const scaled = (ns) => (unit === "share" ? (100 * ns) / bareNs : ns / (unit === "ms" ? 1e6 : 1e3));

/** A time without its unit, milliseconds to the microsecond; `0` only where there is nothing at all. */
const ms = (ns) => (ns === null || ns === undefined ? "-" : ns ? scaled(ns).toFixed({ ms: 3, us: 1, share: 2 }[unit]) : "0");

/** A time in ms whatever the unit is: of bare passes, which a share would be one of itself. */
const inMs = (ns) => `${(ns / 1e6).toFixed(3)} ms`;

const withUnit = (ns) => `${ms(ns)} ${unitName()}`;

// What the rows of tables, and bars of parts and kernels, have to contain, word by word.
let query = [];

/** Whether a text has all words of the filter; a number has to stand alone, as that of a layer. */
const matches = (text) => query.every((word) => (
  /^\d+$/.test(word) ? text.split(/\D+/).includes(word) : text.toLowerCase().includes(word)));

const percent = (share) => `${(100 * share).toFixed(1)}%`;


/** A time on an axis, with as many digits as its step needs; a short step turns ms into us. */
function axisTime(ns, step) {
  const shown = unit === "ms" && step < 1e4 ? "us" : unit;
  const [name, size] = { ms: ["ms", 1e6], us: ["\u00b5s", 1e3], share: ["%", bareNs / 100] }[shown];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / size)));
  return `${(ns / size).toFixed(digits)} ${name}`;
}

const SHORT = new Map(DATA.names.map((name, at) => [name, DATA.short[at] ?? name]));

/** What tells a kernel from others in few characters; its whole name is a click away. */
const shortName = (name) => SHORT.get(name) ?? name;

/** A table's cell: a number under its exact value, for whoever reads the page by program. */
function cell(text, value) {
  const element = make("td", {}, text);
  if (value !== undefined && value !== null) element.dataset.value = value;
  return element;
}

const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}\u2026` : text);

const textCell = (text, kind = "text") => make("td", { class: kind }, text);

/** A long name: short, until it is clicked. */
function nameCell(name) {
  const short = shortName(name);
  if (short === name) return textCell(name, "text name");
  const button = make("button", { type: "button", title: name, "aria-expanded": "false" }, short);
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    button.textContent = open ? short : name;
  });
  return make("td", { class: "text name" }, button);
}

/** The contents of a tooltip: a title and pairs of a name and a value. */
function tip(title, pairs) {
  const list = make("dl");
  for (const [name, value] of pairs) {
    if (value === undefined || value === null) continue;
    list.append(make("dt", {}, name), make("dd", { class: value.length > 24 ? "long" : "" }, value));
  }
  return make("div", { class: "tip" }, make("p", {}, title), list);
}

/** A sentence with the flags in it as code, which no line's end tears apart. */
const withFlags = (sentence) => sentence.split(/(--[a-z][a-z-]*)/).map((piece, at) => (at % 2 ? make("code", {}, piece) : piece));

function paragraphs(place, sentences) {
  place.replaceChildren(...sentences.map((sentence) => make("p", {}, ...withFlags(sentence))));
}

/** What the colours mean. */
function legend(place, entries) {
  place.replaceChildren(
    ...entries.map(([name, color]) => {
      const dot = make("i", { "aria-hidden": "true" });
      dot.style.background = color;
      return make("span", {}, dot, name);
    }),
  );
}

function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
  select.value = String(chosen ?? entries[0]?.[0] ?? "");
}
