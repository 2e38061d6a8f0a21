"use strict";
// Layers in, their picture and their tables out, with those marked that stand out.

function layersChart(config) {
  const { numbers, columns } = config.layers;
  byId("layers-figure").hidden = !numbers.length;
  byId("layers-details").hidden = !numbers.length;
  if (!numbers.length) return;
  const chosen = byId("layers-part").value;
  // What is launched by compiled code or as a graph has no CPU time of its own.
  const kinds = (config.on_device ? [["CUDA", "cuda"], ["CPU", "cpu"]] : [["CPU", "cpu"]])
    .filter(([, kind], at) => !at || sum(config.layers[kind].flat()));
  const series = layerSeries(config, chosen);
  const marked = markedLayers(config, chosen);
  const slowest = Object.fromEntries(kinds.map(([, kind]) => [kind, slowestLayer(numbers, series, kind)]));
  // Between a panel and its title is room for the mark above the tallest bar.
  const top = (at) => 46 + at * 234;
  const option = {
    grid: kinds.map((_, at) => ({ left: 56, right: 16, top: top(at), height: 150 })),
    title: kinds.map(([name], at) => chartTitle(`${name}, ${unitName()}`, -5, top(at) - 42)),
    axisPointer: { link: [{ xAxisIndex: "all" }], type: "shadow" },
    tooltip: tooltip((about) => layerTip(config, (Array.isArray(about) ? about[0] : about).dataIndex, series, kinds, marked), { trigger: "axis", axisPointer: { type: "shadow" } }),
    xAxis: kinds.map((_, at) => categoryAxis(numbers.map(String), {
      gridIndex: at, name: at === kinds.length - 1 ? say("layer") : "", nameLocation: "middle", nameGap: 26,
      nameTextStyle: { color: color("quiet") },
    })),
    yAxis: kinds.map((_, at) => msAxis("", { gridIndex: at, splitNumber: 3 })),
    series: kinds.flatMap(([, kind], at) => [
      ...series.map((line) => ({
        type: "bar", stack: kind, name: line.name, xAxisIndex: at, yAxisIndex: at, barCategoryGap: "22%",
        itemStyle: { color: line.color },
        data: numbers.map((_, layer) => scaled(line.at(kind, layer))),
      })),
      {
        type: "scatter", xAxisIndex: at, yAxisIndex: at, symbol: "circle", symbolSize: 9, symbolOffset: [0, -20], silent: true, z: 5,
        itemStyle: { color: "transparent", borderColor: color("mark"), borderWidth: 1.5 },
        data: numbers.length > 1 ? [[slowest[kind], scaled(sum(series.map((line) => line.at(kind, slowest[kind]))))]] : [],
      },
      {
        type: "scatter", xAxisIndex: at, yAxisIndex: at, symbol: "triangle", symbolRotate: 180, symbolSize: 9,
        symbolOffset: [0, -8], silent: true, itemStyle: { color: color("mark") }, z: 5,
        data: numbers.flatMap((number, layer) =>
          marked[kind].has(number) ? [[layer, scaled(sum(series.map((line) => line.at(kind, layer))))]] : []),
      },
    ]),
  };
  legend(byId("layers-legend"), [
    ...series.map((line) => [line.name, line.color]),
    ...(marked.cuda.size || marked.cpu.size ? [[`\u25bc ${say("outlier")}`, color("mark")]] : []),
    ...(numbers.length > 1 ? [[`\u25cb ${say("slowest ({layers})", { layers: kinds.map(([name, kind]) => `${name}: ${numbers[slowest[kind]]}`).join(", ") })}`, "transparent"]] : []),
  ]);
  draw("layers-chart", top(kinds.length - 1) + 150 + 44,
    say("{layers} by part. Marked: {marked}", {
      layers: many(numbers.length, "layer"), marked: kinds.map(([name, kind]) => `${name}: ${[...marked[kind]].join(", ") || say("none")}`).join("; "),
    }), option);
}

/** The position of the layer of the most time in what is shown. */
function slowestLayer(numbers, series, kind) {
  const times = numbers.map((_, layer) => sum(series.map((line) => line.at(kind, layer))));
  return times.indexOf(Math.max(...times));
}

/** What is stacked: the families of all parts, or the one part that was chosen. */
function layerSeries(config, chosen) {
  const { columns } = config.layers;
  const adds = (wanted) => (kind, layer) => sum(wanted.map((column) => config.layers[kind][layer][column]));
  if (chosen !== "all") {
    const row = config.rows[Number(chosen)];
    return [{ name: fullName(config, row), color: color(DATA.families[row.family]), at: adds(columnsBelow(config, Number(chosen))) }];
  }
  return DATA.families.flatMap((family, number) => {
    const wanted = columns.flatMap((row, at) => (config.rows[row].family === number ? [at] : []));
    return wanted.length ? [{ name: say(family), color: color(family), at: adds(wanted) }] : [];
  });
}

/** The columns of the layers' table that lie in a row, or are it. */
function columnsBelow(config, row) {
  const path = pathOf(config, row);
  return config.layers.columns.flatMap((column, at) => {
    const other = pathOf(config, column);
    return path.every((name, depth) => other[depth] === name) ? [at] : [];
  });
}

/** The layers that stand out in what is shown: as a whole or in a part, or in the part chosen. */
function markedLayers(config, chosen) {
  const found = { cuda: new Set(), cpu: new Set() };
  for (const outlier of config.layers.outliers) {
    if (chosen === "all" || Number(chosen) === outlier.row) found[outlier.kind].add(outlier.layer);
  }
  return found;
}

function layerTip(config, layer, series, kinds, marked) {
  const number = config.layers.numbers[layer];
  const pairs = series.flatMap((line) => kinds.map(([name, kind]) => [`${line.name} ${name}`, `${withUnit(line.at(kind, layer))}`]));
  if (series.length > 1) {
    for (const [name, kind] of kinds) pairs.push([say("all {kind}", { kind: name }), `${withUnit(sum(series.map((line) => line.at(kind, layer))))}`]);
  }
  const chosen = byId("layers-part").value;
  const odd = config.layers.outliers.filter((o) => o.layer === number && (chosen === "all" || Number(chosen) === o.row));
  for (const outlier of odd.slice(0, 4)) {
    pairs.push([`\u25bc ${outlierName(config, outlier)} ${outlier.kind === "cuda" ? "CUDA" : "CPU"}`, `${signed(outlier.ns - outlier.median)} ${unitName()}`]);
  }
  return tip(say("layer {number}", { number }), pairs);
}

function outliersTable(config) {
  const rows = shownOutliers(config);
  byId("outliers-table").parentElement.hidden = !rows.length;
  fillTable(byId("outliers-table"), say("Outlier layers"), [
    { name: say("layer"), isLayer: true, value: (row) => -row.layer, cell: (row) => cell(String(row.layer), row.layer) },
    { name: say("part"), text: true, cell: (row) => textCell(outlierName(config, row)) },
    { name: say("time"), text: true, cell: (row) => textCell(row.kind === "cuda" ? "CUDA" : "CPU") },
    { name: "ms", value: (row) => row.ns, cell: (row) => cell(ms(row.ns), row.ns) },
    { name: say("median of comparable layers"), value: (row) => row.median, cell: (row) => cell(ms(row.median), row.median) },
    {
      name: say("difference"), value: (row) => Math.abs(row.ns - row.median),
      cell: (row) => cell(signed(row.ns - row.median), row.ns - row.median),
    },
  ], rows.slice(0, MOST_OUTLIERS));
}

const MOST_OUTLIERS = 12;

const signed = (ns) => `${ns < 0 ? "\u2212" : "+"}${ms(Math.abs(ns))}`;

const shownOutliers = (config) =>
  config.layers.outliers.filter((outlier) => config.on_device || outlier.kind === "cpu");

function outlierName(config, outlier) {
  const row = config.rows[outlier.row];
  return row.name === "layers" ? say("the whole layer") : fullName(config, row);
}

function layersTable(config) {
  const { numbers } = config.layers;
  const kinds = config.on_device ? ["cuda", "cpu"] : ["cpu"];
  const blocks = layerBlocks(config);
  const columns = [
    { name: say("layer"), isLayer: true, value: (row) => -row.number, cell: (row) => cell(String(row.number), row.number) },
  ];
  for (const block of blocks) {
    for (const kind of kinds) {
      columns.push({
        name: `${block.title} ${kind === "cuda" ? "CUDA" : "CPU"} ms`,
        value: (row) => row[kind][block.key],
        cell: (row) => cell(ms(row[kind][block.key]), row[kind][block.key]),
      });
    }
  }
  const rows = numbers.map((number, at) => {
    const row = { number };
    for (const kind of kinds) {
      row[kind] = Object.fromEntries(
        blocks.map((block) => [block.key, sum(block.columns.map((c) => config.layers[kind][at][c]))]),
      );
    }
    return row;
  });
  fillTable(byId("layers-table"), say("Time of each layer by block"), columns, rows);
}

/** The blocks that layers are made of, each with its columns; and the whole layer. */
function layerBlocks(config) {
  const found = new Map();
  config.layers.columns.forEach((row, at) => {
    const path = pathOf(config, row);
    const from = path.indexOf("layers");
    const name = (path.includes("backward") ? "backward " : "") + path[from + 1];
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(at);
  });
  const all = config.layers.columns.map((_, at) => at);
  return [{ key: "layer", title: say("layer"), columns: all }, ...[...found].map(([name, columns]) => ({ key: name, title: name, columns }))];

}
