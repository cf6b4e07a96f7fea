// One client, whose features and score change as the events arrive.

import { $, make, number, state, SVG, text } from "./base.js";

const WINDOWS = ["5m", "1h", "24h", "30d"];
const FEATURES = { events: "events", web_visits: "web visits", email_opens: "mails opened", email_clicks: "mails clicked",
  click_through: "click-through", distinct_pages: "distinct pages", sessions: "sessions", advisor_calls: "advisor calls" };

let client = { id: null, seen: new Map(), scores: [], cells: {}, asking: false };

export function follow(id) {
  client = { ...client, id, scores: [], cells: {} };
  $("score-line").replaceChildren();
  askClient();
}

/** Somebody of whom much was seen. */
export function followAnother() {
  const [next] = [...client.seen].filter(([id]) => id !== client.id).sort((a, b) => b[1] - a[1]);
  client.seen.delete(client.id);
  if (next) follow(next[0]);
}

export function saw(id) {
  if (client.seen.size > 2000) client.seen.clear();
  client.seen.set(id, (client.seen.get(id) || 0) + 1);
}

export function isFollowed(id) {
  return id === client.id;
}

export async function askClient() {
  if (client.asking || state.status.phase !== "running") return; // it may be gone by the time that this arrives
  client.asking = true;
  const id = client.id;
  try {
    // Without an id it is the busiest one.
    const answer = await fetch(`/page/client?id=${encodeURIComponent(id || "")}`);
    const found = answer.ok ? await answer.json() : null;
    if (found && found.client_id && id === client.id) {
      client.id = found.client_id;
      showClient(found);
    }
  } catch { /* the daemon is gone; its stream tells */ } finally {
    client.asking = false;
  }
}

function showClient({ client_id: id, features, score }) {
  text("client-id", id);
  text("score-change", "");
  const propensity = score.propensity;
  const known = propensity !== undefined && propensity !== null;
  text("gauge-text", known ? `${(100 * propensity).toFixed(propensity < 0.1 ? 1 : 0)}%` : "–");
  $("gauge").style.visibility = known ? "visible" : "hidden";
  $("gauge").style.strokeDasharray = `${known ? 100 * propensity : 0} 100`;
  text("action", (score.next_best_action || "–").replaceAll("_", " "));
  $("action").className = `chip ${score.next_best_action || ""}`;
  if (known) {
    const last = client.scores.at(-1);
    if (last !== undefined && Math.abs(last - propensity) > 0.0005) {
      const up = propensity > last;
      text("score-change", `${up ? "▲" : "▼"} ${Math.abs(100 * (propensity - last)).toFixed(1)} points`);
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
  const head = make("tr");
  head.append(make("th", features.last_channel ? `last by ${features.last_channel}` : ""), ...WINDOWS.map((it) => make("th", it.replace("m", " min").replace("h", " h").replace("d", " days"))));
  const lines = Object.entries(FEATURES).map(([name, label]) => {
    const line = make("tr");
    line.append(make("td", label));
    for (const window of WINDOWS) {
      const value = features[`${name}_${window}`];
      const shown = value === undefined || value === null ? "–" : name === "click_through" ? `${Math.round(100 * value)}%` : number.format(value);
      const cell = make("td", shown);
      const key = `${name}_${window}`;
      if (client.cells[key] !== undefined && client.cells[key] !== shown) cell.className = "moved";
      client.cells[key] = shown;
      line.append(cell);
    }
    return line;
  });
  $("features").replaceChildren(head, ...lines);
}
