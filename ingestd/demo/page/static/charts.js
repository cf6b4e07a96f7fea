// What has changed over the last two minutes.

import { $, before, colour, number, state, SVG, text, total } from "./base.js";

const COLUMNS = [40, 120]; // at least, at most

export function showChart() {
  const samples = state.samples;
  if (!samples.length || (before && before.samples.length && before.samples.at(-1).at === samples.at(-1).at && $("chart").firstChild)) return;
  const last = samples.at(-1).at;
  const top = Math.max(5, ...samples.map((it) => total(it.counts)));
  const columns = Math.min(COLUMNS[1], Math.max(COLUMNS[0], samples.length));
  const width = 1200 / columns;
  text("chart-span", `the last ${columns < 120 ? `${columns} seconds` : "two minutes"}`);
  const paths = new Map();
  for (const sample of samples) {
    const x = 1200 - (last - sample.at + 1) * width;
    if (x < 0) continue;
    let y = 160;
    for (const kind of Object.keys(sample.counts).sort((a, b) => (a === "rejected") - (b === "rejected") || (a < b ? -1 : 1))) {
      const height = (sample.counts[kind] / top) * 152;
      if (height <= 0) continue;
      y -= height;
      paths.set(kind, `${paths.get(kind) || ""}M${x + 1} ${y}h${width - 2}v${height}h${2 - width}z`);
    }
  }
  const drawn = [...paths].map(([kind, d]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    path.style.fill = colour(kind);
    return path;
  });
  $("chart").replaceChildren(...drawn);
  if (state.pipe) showGrowth(samples, columns);
  text("chart-max", `peak ${number.format(top)}`);
}

/** The rows in the table, from its least to its most. */
function showGrowth(samples, columns) {
  const low = samples[0].rows, high = samples.at(-1).rows;
  const points = samples.map((it, i) => `${300 - ((samples.length - 1 - i) * 300) / (columns - 1)} ${58 - (54 * (it.rows - low)) / Math.max(1, high - low)}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", `M${points[0].split(" ")[0]} 60L${points.join("L")}L300 60z`);
  $("growth").replaceChildren(path);
}
