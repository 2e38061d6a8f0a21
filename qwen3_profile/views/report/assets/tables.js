"use strict";
// Rows in, tables out that a click on a head sorts.

/**
 * Fills a table.
 *
 * columns: [{name, text?, value(row), cell(row)}]; a column with `value` can be sorted.
 * sorted: [column's index, "descending"], or nothing for the order of the rows.
 */
function fillTable(table, caption, columns, rows, sorted) {
  const body = make("tbody");
  const heads = columns.map((column, at) => head(column, () => sort(at)));
  const about = make("caption");
  table.replaceChildren(
    about,
    make("thead", {}, make("tr", {}, ...heads)),
    body,
  );
  addCopy(table);
  const order = rows.map((row, at) => ({ row, at }));
  let state = sorted ?? [-1, ""];
  draw();

  function sort(at) {
    const next = { descending: "ascending", ascending: "" };
    const turned = state[0] === at ? next[state[1]] : "descending";
    state = turned ? [at, turned] : [-1, ""];
    draw();
  }

  function draw() {
    const [at, way] = state;
    const sign = way === "ascending" ? 1 : -1;
    const value = at >= 0 ? columns[at].value : null;
    order.sort((a, b) =>
      value ? sign * compare(value(a.row), value(b.row)) || a.at - b.at : a.at - b.at,
    );
    heads.forEach((element, column) =>
      element.setAttribute("aria-sort", column === at ? way : "none"),
    );
    table.dataset.sorted = String(at >= 0);
    const found = order.filter(({ row }) => isFound(table, columns, row));
    body.replaceChildren(
      ...found.map(({ row }) =>
        make("tr", { class: row.isSum ? "sum" : "" }, ...columns.map((column) => column.cell(row, at >= 0))),
      ),
    );
    const isEmptied = query.length > 0 && !found.length;
    about.className = isEmptied ? "quiet" : "unseen";
    about.textContent = isEmptied ? say("Nothing here matches the filter.") : caption;
  }
}

// Of whole configs, and kernels, which are found by their whole names before.
const UNFILTERED = new Set(["configs-table", "totals-table", "kernels-table"]);

/** Whether a row has all words of the filter, in its name as it is where rows are sorted. */
function isFound(table, columns, row) {
  if (!query.length || UNFILTERED.has(table.id)) return true;
  const words = columns.filter((column) => column.text || column.isLayer)
    .map((column) => `${column.text ? "" : `layer ${say("layer")} `}${column.cell(row, true).textContent}`);
  return matches(words.join(" "));
}

const copyButtons = new Map();

/** A button above a table that copies it as it stands. */
function addCopy(table) {
  if (!copyButtons.has(table)) {
    const button = make("button", { type: "button" });
    copyButtons.set(table, button);
    button.addEventListener("click", async () => {
      const done = await copy(csvOf(table));
      button.textContent = done ? say("Copied") : say("Cannot copy here");
      setTimeout(() => { button.textContent = say("Copy as CSV"); }, 1500);
    });
    table.parentElement.before(make("div", { class: "copy" }, button));
  }
  copyButtons.get(table).textContent = say("Copy as CSV");
}

function csvOf(table) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const whole = (cell) => cell.querySelector("button[title]")?.title || cell.textContent;
  const line = (row) => [...row.cells].map((cell) => quoted(row.parentElement.tagName === "THEAD" ? cell.textContent : whole(cell))).join(",");
  return [...table.rows].map(line).join("\n") + "\n";
}

/** Puts text on the clipboard, also in a frame that may not ask for it. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const place = make("textarea", { value: text, readOnly: true });
    document.body.append(place);
    place.select();
    const done = document.execCommand("copy");
    place.remove();
    return done;
  }
}

function compare(a, b) {
  if (typeof a === "string") return -a.localeCompare(b);
  return (a ?? -1) - (b ?? -1);
}

function head(column, sort) {
  const kind = column.text ? "text" : "";
  const name = column.name.replace(/\bms\b/, unitName());
  if (!column.value) return make("th", { class: kind, scope: "col" }, name);
  const button = make("button", { type: "button", title: column.title }, name);
  button.addEventListener("click", sort);
  return make("th", { class: kind, scope: "col", "aria-sort": "none" }, button);
}

/** A part's name, below that of the part it is in; in full where rows are sorted. */
function partCell(config, row, isSorted) {
  const element = make("td", { class: "text" });
  const dot = make("i", { class: "dot", "aria-hidden": "true" });
  // The whole pass and its layers are of no one kind.
  if (!row.leaf && DATA.families[row.family] === "other") dot.hidden = true;
  dot.style.background = color(DATA.families[row.family]);
  if (!isSorted) element.style.paddingLeft = `${row.depth * 16}px`;
  element.append(dot, isSorted ? fullName(config, row) : row.name);
  return element;
}

/** `attn / q_proj`: the names from the layer on, or from the pass on. */
function fullName(config, row) {
  const path = pathOf(config, config.rows.indexOf(row));
  const from = path.lastIndexOf("layers") + 1 || 1;
  const names = path.slice(from < path.length ? from : from - 1);
  // What no part explains is to be told apart by what it is left of.
  if (names.length === 1 && row.name === "other") names.unshift(path[path.length - 2]);
  return (path.includes("backward") && names[0] !== "backward" ? ["backward", ...names] : names).join(" / ");
}

const paths = new WeakMap();

function pathOf(config, at) {
  if (!paths.has(config)) {
    const found = [];
    let above = [];
    for (const row of config.rows) {
      above = [...above.slice(0, row.depth), row.name];
      found.push(above);
    }
    paths.set(config, found);
  }
  return paths.get(config)[at];
}

/** All configs side by side; the one that is shown stands out. */
function configsTable(current) {
  const device = DATA.configs.some((config) => config.on_device);
  byId("configs-scroll").hidden = DATA.configs.length < 2;
  const bare = (config, key) => config.bare?.[key] ?? null;
  const time = (name, key) => ({
    name, value: (config) => bare(config, key), cell: (config) => cell(ms(bare(config, key)), bare(config, key)),
  });
  const overhead = (config) => config.overhead?.ratio ?? null;
  const iqr = (config) => (bare(config, "count") > 1 ? bare(config, "iqr") / bare(config, "median") : null);
  const columns = [
    { name: say("config"), text: true, cell: (config) => textCell(spoken(config.label)) },
    time(say("bare ms"), "median"),
    time(say("min"), "min"),
    time(say("max"), "max"),
    { name: "IQR", value: iqr, cell: (config) => cell(iqr(config) === null ? "-" : percent(iqr(config))) },
    {
      name: say("overhead"), value: overhead, title: say("traced passes over bare ones"),
      cell: (config) => cell(spoken(config.overhead?.text) ?? "-", overhead(config)),
    },
  ];
  if (device) {
    const share = (config) => config.share?.share ?? null;
    const none = (config) => sum(config.unattributed.map((item) => item.ns));
    columns.push(
      { name: say("unattributed ms"), value: none, cell: (config) => cell(ms(none(config)), none(config)) },
      { name: say("GPU busy"), value: share, cell: (config) => cell(config.share?.text ?? "-", share(config)) },
      { name: say("verdict"), text: true, cell: (config) => textCell(config.share ? say(config.first.verdict) : say("CPU only")) },
    );
  }
  const found = (config) => config.findings.filter((finding) => finding.severity !== "note").length;
  columns.push({ name: say("findings"), value: found, cell: (config) => cell(String(found(config)), found(config)) });
  const rows = DATA.configs.map((config) => ({ ...config, isSum: config === current }));
  fillTable(byId("configs-table"), say("Configs"), columns, rows);
}

function totalsTable(config) {
  const rows = config.totals.map((total) => ({ ...total, known: known(total.values) }));
  const statistic = (name, read) => ({
    name,
    cell: (row) => cell(ms(read(row.known)), read(row.known)),
  });
  fillTable(byId("totals-table"), say("Totals in milliseconds"), [
    { name: "ms", text: true, cell: (row) => textCell(row.name) },
    statistic(say("median"), median),
    statistic(say("min"), (values) => Math.min(...values)),
    statistic(say("max"), (values) => Math.max(...values)),
    {
      name: say("IQR / median"),
      cell: (row) => {
        const middle = median(row.known);
        const iqr = quantile(row.known, 0.75) - quantile(row.known, 0.25);
        return cell(row.known.length > 1 && middle ? percent(iqr / middle) : "-");
      },
    },
    { name: say("passes"), cell: (row) => cell(String(row.known.length), row.known.length) },
    { name: say("what it is"), text: true, cell: (row) => textCell(spoken(row.meaning)) },
  ], rows);
}

/** A column of times, which a click on its head sorts by. */
const timeColumn = (name, key, title) => ({
  name, title, value: (row) => row[key], cell: (row) => cell(ms(row[key]), row[key]),
});

function partsTable(config) {
  const device = config.on_device;
  const whole = config.rows[0];
  const share = (key) => ({
    name: say("share"),
    value: (row) => row[key],
    cell: (row) => cell(whole[key] ? percent(row[key] / whole[key]) : ""),
  });
  const columns = [
    { name: say("part, all layers"), text: true, cell: (row, sorted) => partCell(config, row, sorted) },
    {
      name: say("calls"), value: (row) => row.calls,
      cell: (row) => cell(row.calls ? String(row.calls) : "", row.calls),
    },
    timeColumn("CPU ms", "cpu_ns", say("wall-clock on the host from start to end")),
    share("cpu_ns"),
  ];
  if (device) {
    columns.push(timeColumn("CUDA ms", "device_ns", say("device events launched inside, whenever they ran")));
    columns.push(share("device_ns"));
    columns.push({
      name: say("events"), value: (row) => row.device_events,
      cell: (row) => cell(String(row.device_events), row.device_events),
    });
  }
  if (config.rows[0].bytes !== undefined) columns.push(...trafficColumns(device ? "device_ns" : "cpu_ns"));
  fillTable(byId("parts-table"), say("Parts, all layers together"), columns, config.rows);
}

function waitsTable(config) {
  const rows = config.rows.filter((row) => row.leaf && (row.device_events || row.launch_ns));
  const idleShare = (row) => row.gap_ns / (row.gap_ns + row.device_ns || 1);
  const delay = (row) => (row.device_events ? row.queue_ns / row.device_events : null);
  fillTable(byId("waits-table"), say("GPU busy and idle time by part"), [
    { name: say("part, all layers"), text: true, cell: (row) => partCell(config, row, true) },
    timeColumn(say("GPU busy ms"), "device_ns"),
    timeColumn(say("GPU idle ms"), "gap_ns"),
    {
      name: say("idle share"), value: idleShare,
      cell: (row) => cell(row.device_events ? percent(idleShare(row)) : "-"),
    },
    timeColumn(say("launch ms"), "launch_ns"),
    { name: say("delay \u00b5s"), value: delay, cell: (row) => cell(delay(row) === null ? "-" : (delay(row) / 1e3).toFixed(1), delay(row)) },
    {
      name: say("events"), value: (row) => row.device_events,
      cell: (row) => cell(String(row.device_events), row.device_events),
    },
  ], rows, [2, "descending"]);
}

/** Of the replay of a graph: what each part takes in it, and took in the eager pass beside it. */
function graphTable(config) {
  byId("graph-body").hidden = !config.savings.length;
  fillTable(byId("graph-table"), say("What the graph saves, in milliseconds"), [
    { name: say("part, all layers"), text: true, cell: (row) => textCell(row.part.replaceAll(".", " / ")) },
    timeColumn("eager GPU ms", "eager"), timeColumn("graph GPU ms", "graph"),
    timeColumn(say("eager idle ms"), "eager_gap"), timeColumn(say("graph idle ms"), "graph_gap"), timeColumn(say("saved ms"), "saved"),
  ], config.savings);
}

function kernelsTable(config, part) {
  const { noun } = config.kernels;
  const rows = kernelRows(config, part);
  const whole = sum(rows.map((row) => row.total));
  const columns = [
    { name: say(noun), text: true, cell: (row) => (row.name === null ? textCell(row.text) : nameCell(row.name)) },
    { name: say("part"), text: true, value: (row) => row.part, cell: (row) => textCell(row.part) },
    { name: say("calls"), value: (row) => row.calls, cell: (row) => cell(String(row.calls), row.calls) },
    { name: say("total ms"), value: (row) => row.total, cell: (row) => cell(ms(row.total), row.total) },
    {
      name: say("mean \u00b5s"), value: (row) => row.total / row.calls,
      cell: (row) => cell((row.total / row.calls / 1e3).toFixed(2), row.total / row.calls),
    },
    { name: say("share"), value: (row) => row.total, cell: (row) => cell(whole ? percent(row.total / whole) : "") },
  ];
  if (config.on_device) {
    columns.push({ name: say("launched by"), text: true, value: (row) => row.op, cell: (row) => textCell(cut(row.op, 40) || "-", "text name") });
  }
  fillTable(byId("kernels-table"), config.on_device ? say("kernels") : say("operators"), columns, rows.slice(0, MOST_KERNEL_ROWS), [3, "descending"]);
  const rest = rows.slice(MOST_KERNEL_ROWS);
  byId("kernels-note").textContent = sentences([
    ...(config.on_device ? [
      part === "all" ? say("share: of all device events of the pass.") : say("share: of all device events of this part."),
      say("launched by: the innermost operator around the launch."),
    ] : [
      part === "all" ? say("share: of all operators of the pass.") : say("share: of all operators of this part."),
      say("An operator's time includes the operators it calls."),
    ]),
    rest.length ? say("{rows} of {time} in total; choose a part to see its rows.", { rows: many(rest.length, "more row"), time: withUnit(sum(rest.map((row) => row.total))) }) : "",
    config.on_device ? say("Click a kernel for its full name.") : "",
  ]);
}

const MOST_KERNEL_ROWS = 30;

/** The kernels of one part, or of "all"; what was summed up is one row a part. */
function kernelRows(config, part) {
  const { rows, rest, noun } = config.kernels;
  const named = (row) => (row < 0 ? say("unattributed") : fullName(config, config.rows[row]));
  const wanted = (row, name = "") => (part === "all" || Number(part) === row) && matches(`${named(row)} ${name}`);
  const single = rows.filter(([row, name]) => wanted(row, DATA.names[name])).map(([row, name, op, calls, total]) => ({
    row, part: named(row), name: DATA.names[name], op: DATA.names[op], calls, total,
  }));
  const others = rest.filter(([row]) => wanted(row)).map(([row, kinds, calls, total]) => ({
    row, part: named(row), name: null, text: noun === "kernel" ? many(kinds, "more kernel") : many(kinds, "more operator"), op: "", calls, total,

  }));
  return [...single, ...others].sort((a, b) => b.total - a.total);
}
