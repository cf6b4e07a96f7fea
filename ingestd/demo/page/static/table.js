// The table that is asked, and objects that are looked into.

import { $, bytes, count, make, state, text } from "./base.js";

export function showQuery() {
  const reply = state.query;
  $("ask").hidden = !state.controls.names.length || state.ended;
  if (!reply) return;
  text("guide-sql", reply.sql.replace(" WHERE", "\nWHERE"));
  if (reply.error) {
    text("guide-answer", "–");
    text("guide-note", reply.error);
  } else {
    count("guide-answer", reply.rows[0][0]);
    text("guide-note", `events in the last five minutes; answered in ${Math.max(1, Math.round(1000 * reply.took))} ms`);
  }
}

export async function ask(event) {
  event.preventDefault();
  text("ask-error", "");
  try {
    const answer = await fetch(`/page/query?sql=${encodeURIComponent($("sql").value)}`);
    if (!answer.ok) throw new Error(await answer.text());
    const reply = await answer.json();
    if (reply.error) throw new Error(reply.error);
    const head = make("tr");
    head.append(...reply.columns.map((it) => make("th", it)));
    const lines = reply.rows.map((row) => {
      const line = make("tr");
      line.append(...row.map((it) => make("td", it === null ? "NULL" : it)));
      return line;
    });
    $("answer").replaceChildren(head, ...lines);
  } catch (error) {
    text("ask-error", error.message);
  }
}

export async function look(key) {
  text("look-key", key);
  $("look-metadata").replaceChildren();
  $("look-lines").replaceChildren(make("p", "…"));
  if (!$("look").open) $("look").showModal();
  try {
    const answer = await fetch(`/page/object?key=${encodeURIComponent(key)}`);
    if (!answer.ok) throw new Error(await answer.text());
    const found = await answer.json();
    const metadata = ["rows", "rejected", "start", "end", "first-offset", "sha256"].filter((it) => found.metadata[it]);
    $("look-metadata").replaceChildren(...[["size", bytes(found.size)], ...metadata.map((it) => [it, found.metadata[it].slice(0, 20)])].map(([name, value]) => {
      const box = make("div");
      box.append(make("dt", name), make("dd", value));
      return box;
    }));
    $("look-lines").replaceChildren(...found.lines.map((line) => make("pre", pretty(line))));
  } catch (error) {
    $("look-lines").replaceChildren(make("p", state.ended ? "The daemon has ended; the object is still there." : error.message, "error"));
  }
}

function pretty(line) {
  try {
    return JSON.stringify(JSON.parse(line), null, 1).replace(/\n\s*/g, " ");
  } catch {
    return line;
  }
}
