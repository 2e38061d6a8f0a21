"use strict";
// Tokens of each expert in each layer in, their heat map out.

function expertsChart(config) {
  const { routing } = config;
  byId("experts").hidden = !routing.length;
  if (!routing.length) return;
  const count = routing[0].tokens.length;
  const ratio = (layer, expert) => (layer.tokens[expert] * count) / Math.max(1, sum(layer.tokens));
  const cells = routing.flatMap((layer, y) => layer.tokens.map((_, expert) => [expert, y, ratio(layer, expert)]));
  const most = Math.max(1, ...cells.map((cell) => cell[2]));
  const height = Math.min(560, Math.max(90, 16 * routing.length));
  const option = {
    grid: { left: 56, right: 16, top: 8, height },
    tooltip: tooltip((about) => {
      const [expert, y, share] = about.value;
      return tip(say("layer {layer}, expert {expert}", { layer: routing[y].layer, expert }), [
        [say("tokens"), String(routing[y].tokens[expert])], [say("over the mean"), share.toFixed(2)],
      ]);
    }),
    xAxis: categoryAxis([...routing[0].tokens.keys()], { name: say("expert"), nameLocation: "middle", nameGap: 24, nameTextStyle: { color: color("quiet") } }),
    yAxis: categoryAxis(routing.map((layer) => String(layer.layer)), { name: say("layer"), nameLocation: "middle", nameGap: 32, inverse: true, nameTextStyle: { color: color("quiet") } }),
    visualMap: {
      min: 0, max: most, calculable: false, orient: "horizontal", left: 50, bottom: 0, itemHeight: 120, itemWidth: 10, precision: 1,
      text: [say("{times}x the mean", { times: most.toFixed(1) }), say("no tokens")], textStyle: { color: color("quiet") },
      inRange: { color: [color("raised"), color("ffn"), color("mark")] },
    },
    series: [{ type: "heatmap", data: cells, progressive: 0 }],
  };
  const busiest = cells.reduce((a, b) => (b[2] > a[2] ? b : a));
  draw("experts-chart", height + 96, say("Tokens of {count} experts in {layers}; the busiest is expert {expert} of layer {layer} with {times} times the mean", {
    count, layers: many(routing.length, "layer"), expert: busiest[0], layer: routing[busiest[1]].layer, times: busiest[2].toFixed(2),
  }), option);

}
