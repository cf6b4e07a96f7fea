// The charts of the last two minutes: events a second by type, and rows in the table.

import { $, colourOf, numberFormat, previous, setText, state, sumOf, SVG } from "./base.js";

const MIN_COLUMNS = 40, MAX_COLUMNS = 120;

export function showChart() {
  const samples = state.samples;
  if (!samples.length) return;
  if ($("chart").firstChild && previous?.samples.at(-1)?.at === samples.at(-1).at) return; // no new sample
  const last = samples.at(-1).at;
  const top = Math.max(5, ...samples.map((it) => sumOf(it.counts)));
  const columns = Math.min(MAX_COLUMNS, Math.max(MIN_COLUMNS, samples.length));
  const width = 1200 / columns;
  setText("chart-span", `last ${columns < MAX_COLUMNS ? `${columns} seconds` : "two minutes"}`);
  const paths = new Map();
  for (const sample of samples) {
    const x = 1200 - (last - sample.at + 1) * width;
    if (x < 0) continue;
    let y = 160;
    for (const type of Object.keys(sample.counts).sort((a, b) => (a === "rejected") - (b === "rejected") || (a < b ? -1 : 1))) {
      const height = (sample.counts[type] / top) * 152;
      if (height <= 0) continue;
      y -= height;
      paths.set(type, `${paths.get(type) || ""}M${x + 1} ${y}h${width - 2}v${height}h${2 - width}z`);
    }
  }
  const drawn = [...paths].map(([type, d]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    path.style.fill = colourOf(type);
    return path;
  });
  $("chart").replaceChildren(...drawn);
  if (state.loader) showTableGrowth(samples, columns);
  setText("chart-max", `peak ${numberFormat.format(top)}`);
}

/** Shows the number of rows over time, scaled from its lowest to its highest value. */
function showTableGrowth(samples, columns) {
  const low = samples[0].rows, high = samples.at(-1).rows;
  const points = samples.map((it, i) => `${300 - ((samples.length - 1 - i) * 300) / (columns - 1)} ${58 - (54 * (it.rows - low)) / Math.max(1, high - low)}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", `M${points[0].split(" ")[0]} 60L${points.join("L")}L300 60z`);
  $("table-chart").replaceChildren(path);
}
