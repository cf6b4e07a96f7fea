// Queries of the table: the guide's query, and the SQL that a visitor types.

import { $, countUp, createElement, setText, state } from "./base.js";

export function showQuery() {
  const reply = state.query;
  $("query-form").hidden = !state.controls.names.length || state.ended;
  if (!reply) return;
  setText("guide-sql", reply.sql.replace(" WHERE", "\nWHERE"));
  if (reply.error) {
    setText("guide-answer", "–");
    setText("guide-note", reply.error);
  } else {
    countUp("guide-answer", reply.rows[0][0]);
    setText("guide-note", `events in the last five minutes; answered in ${Math.max(1, Math.round(1000 * reply.duration_s))} ms`);
  }
}

export async function runVisitorQuery(event) {
  event.preventDefault();
  setText("query-error", "");
  try {
    const response = await fetch(`/page/query?sql=${encodeURIComponent($("sql").value)}`);
    if (!response.ok) throw new Error(await response.text());
    const reply = await response.json();
    if (reply.error) throw new Error(reply.error);
    $("query-result").replaceChildren(tableRow("th", reply.columns), ...reply.rows.map((row) => tableRow("td", row)));
  } catch (error) {
    setText("query-error", error.message);
  }
}

function tableRow(tag, cells) {
  const row = createElement("tr");
  row.append(...cells.map((it) => createElement(tag, it === null ? "NULL" : it)));
  return row;
}
