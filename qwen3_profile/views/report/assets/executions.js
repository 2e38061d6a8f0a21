"use strict";
// What the kernels move in, cells of it out; and the executions that ran side by side as a table.

/** Bytes as megabytes to the kilobyte; `0` only where nothing is moved, n/a where nobody knows. */
const mb = (bytes) => (bytes === null ? "n/a" : bytes ? (bytes / 1e6).toFixed(3) : "0");

/** Bytes per nanosecond are gigabytes per second; null where there is no such rate. */
const rate = ({ bytes, at_least: isMore }, ns) => (bytes && ns && !isMore ? bytes / ns : null);

/** The columns of a table whose rows have `bytes`, and their time under `key`. */
function trafficColumns(key) {
  return [
    {
      name: say("traffic MB"), title: say("memory traffic: what the kernels read and write, each operand once"),
      value: (row) => row.bytes, cell: (row) => (row.elsewhere ? cell("") : cell((row.at_least && row.bytes !== null ? "> " : "") + mb(row.bytes), row.bytes)),
    },
    {
      name: "GB/s", title: say("memory traffic over time"), value: (row) => rate(row, row[key]),
      cell: (row) => {
        const found = rate(row, row[key]);
        return cell(found === null ? "" : found.toFixed(1), found);
      },
    },
  ];
}

/** Eager, compiled and as a graph: of each part one row for each. */
function waysTable(config) {
  const found = DATA.comparisons.find((each) => each.configs.includes(DATA.configs.indexOf(config)));
  byId("ways").hidden = !found;
  if (!found) return;
  const names = found.names.map(spoken);
  const of = (part, cells) => cells.map((cost, way) => ({ part, way: names[way], ...cost }));
  const whole = of(say("all parts"), found.whole).map((row) => ({ ...row, isSum: true }));
  const rows = [...found.rows.flatMap((row) => of(row.part, row.cells)), ...whole];
  const number = (name, key, text) => ({
    name, value: (row) => row[key],
    cell: (row) => (row.elsewhere ? cell("") : cell(text(row[key]), row[key])),
  });
  const time = found.on_device ? "CUDA ms" : "CPU ms";
  const columns = [
    { name: say("part, all layers"), text: true, value: (row) => row.part, cell: (row) => textCell(row.part) },
    { name: say("execution"), text: true, value: (row) => row.way, cell: (row) => textCell(row.way) },
    {
      name: time, value: (row) => row.ns,
      cell: (row) => (row.elsewhere ? cell(say("fused")) : cell(ms(row.ns), row.ns)),
    },
  ];
  if (found.on_device) columns.push(number(say("idle ms"), "gap_ns", ms));
  columns.push(number(found.on_device ? say("kernels") : say("operations"), "kernels", (count) => String(count ?? "n/a")), ...trafficColumns("ns"));
  fillTable(byId("ways-table"), say("Executions side by side"), columns, rows);
  const bare = listed(names.map((name, way) => `${name} ${inMs(found.bare[way])}`));
  byId("ways-bare").textContent = say("A bare pass takes: {bare}.", { bare });

}
