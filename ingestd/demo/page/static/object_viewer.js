// The dialog that shows an object: its metadata and its first lines.

import { $, createElement, formatBytes, setText, shorten, state } from "./base.js";

const METADATA = ["queue", "messages", "rows", "rejected", "start", "end", "first-offset", "sha256"]; // a queue has no offsets

export async function openObject(key) {
  setText("object-key", key);
  $("object-metadata").replaceChildren();
  $("object-lines").replaceChildren(createElement("p", "…"));
  if (!$("object-viewer").open) $("object-viewer").showModal();
  try {
    const response = await fetch(`/page/object?key=${encodeURIComponent(key)}`);
    if (!response.ok) throw new Error(await response.text());
    showObject(await response.json());
  } catch (error) {
    $("object-lines").replaceChildren(createElement("p", state.ended ? "The daemon has stopped; the object still exists." : error.message, "error"));
  }
}

function showObject({ size, metadata, lines }) {
  const entries = [["size", formatBytes(size)], ...METADATA.filter((it) => metadata[it]).map((it) => [it, metadata[it]])];
  $("object-metadata").replaceChildren(...entries.map(([name, value]) => {
    const box = createElement("div");
    const shown = createElement("dd", shorten(value));
    shown.title = value;
    box.append(createElement("dt", name), shown);
    return box;
  }));
  $("object-lines").replaceChildren(...lines.map((line) => createElement("pre", spacedJson(line))));
}

function spacedJson(line) {
  try {
    return JSON.stringify(JSON.parse(line), null, 1).replace(/\n\s*/g, " ");
  } catch {
    return line;
  }
}
