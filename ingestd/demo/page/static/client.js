// One client: its features and score, which change as events arrive.

import { $, createElement, numberFormat, setText, state, SVG } from "./base.js";

const WINDOWS = ["5m", "1h", "24h", "30d"];
const FEATURES = { events: "events", web_visits: "web visits", email_opens: "emails opened", email_clicks: "emails clicked",
  click_through: "click-through", distinct_pages: "distinct pages", sessions: "sessions", advisor_calls: "advisor calls" };

// The shop links to its visitor: /?client=ID
const asked = new URLSearchParams(location.search).get("client");

let client = { id: asked, seen: new Map(), scores: [], cells: {}, isLoading: false };

export function followClient(id) {
  client = { ...client, id, scores: [], cells: {} };
  $("score-line").replaceChildren();
  refreshClient();
}

/** Follows the client with the most events on the page. */
export function followAnotherClient() {
  const [next] = [...client.seen].filter(([id]) => id !== client.id).sort((a, b) => b[1] - a[1]);
  client.seen.delete(client.id);
  if (next) followClient(next[0]);
}

export function noteEvent(id) {
  if (client.seen.size > 2000) client.seen.clear();
  client.seen.set(id, (client.seen.get(id) || 0) + 1);
}

export function isFollowed(id) {
  return id === client.id;
}

export async function refreshClient() {
  if (client.isLoading || state.status.phase !== "running") return; // the daemon may stop before it answers
  client.isLoading = true;
  const id = client.id;
  try {
    // Without an id the daemon chooses the busiest client.
    const response = await fetch(`/page/client?id=${encodeURIComponent(id || "")}`);
    const found = response.ok ? await response.json() : null;
    if (found && found.client_id && id === client.id) {
      client.id = found.client_id;
      showClient(found);
    }
  } catch { /* the daemon has stopped; the event stream reports it */ } finally {
    client.isLoading = false;
  }
}

function showClient({ client_id: id, features, score }) {
  setText("client-id", id);
  setText("score-change", "");
  const propensity = score.propensity;
  const known = propensity !== undefined && propensity !== null;
  setText("gauge-text", known ? `${(100 * propensity).toFixed(propensity < 0.1 ? 1 : 0)}%` : "–");
  $("gauge").style.visibility = known ? "visible" : "hidden";
  $("gauge").style.strokeDasharray = `${known ? 100 * propensity : 0} 100`;
  setText("action", (score.next_best_action || "–").replaceAll("_", " "));
  $("action").className = `chip ${score.next_best_action || ""}`;
  if (known) {
    const last = client.scores.at(-1);
    if (last !== undefined && Math.abs(last - propensity) > 0.0005) {
      const up = propensity > last;
      setText("score-change", `${up ? "▲" : "▼"} ${Math.abs(100 * (propensity - last)).toFixed(1)} points`);
      $("score-change").className = up ? "up" : "drop";
    }
    client.scores = [...client.scores, propensity].slice(-60);
    showScores();
  }
  showFeatures(features);
}

function showScores() {
  const low = Math.min(...client.scores), high = Math.max(...client.scores);
  const span = Math.max(0.02, high - low);
  const step = 300 / Math.max(1, client.scores.length - 1);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", client.scores.map((it, i) => `${(i * step).toFixed(1)},${(36 - ((it - low) / span) * 32).toFixed(1)}`).join(" "));
  $("score-line").replaceChildren(line);
}

function showFeatures(features) {
  const head = createElement("tr");
  head.append(createElement("th", features.last_channel ? `last channel: ${features.last_channel}` : ""), ...WINDOWS.map((it) => createElement("th", it.replace("m", " min").replace("h", " h").replace("d", " days"))));
  const lines = Object.entries(FEATURES).map(([name, label]) => {
    const line = createElement("tr");
    line.append(createElement("td", label));
    for (const window of WINDOWS) {
      const value = features[`${name}_${window}`];
      const shown = value === undefined || value === null ? "–" : name === "click_through" ? `${Math.round(100 * value)}%` : numberFormat.format(value);
      const cell = createElement("td", shown);
      const key = `${name}_${window}`;
      if (client.cells[key] !== undefined && client.cells[key] !== shown) cell.className = "moved";
      client.cells[key] = shown;
      line.append(cell);
    }
    return line;
  });
  $("features").replaceChildren(head, ...lines);
}
