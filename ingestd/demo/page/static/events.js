// The last events, and the last that were rejected.

import { $, before, colour, identity, keyed, make, rows, seconds, state } from "./base.js";
import { follow, isFollowed, saw } from "./client.js";

function words(event) {
  if (event.page_url) return event.page_url.replace(/^https?:\/\/[^/]*/, "") || "/";
  if (event.campaign_id) return event.campaign_id;
  return typeof event.duration_s === "number" ? seconds(event.duration_s) : "";
}

export function showEvents() {
  const known = new Set(before ? before.events.map(identity) : []);
  keyed($("events"), state.events.slice(0, 10), identity, (event) => {
    const item = make("li");
    item.style.setProperty("--c", colour(event.event_type));
    item.dataset.client = event.client_id;
    const who = make("button", event.client_id);
    who.type = "button";
    who.title = "Follow this client";
    who.addEventListener("click", () => follow(event.client_id));
    item.append(make("time", event.event_timestamp.slice(11, 19)), make("b", event.event_type), make("span", words(event)), who);
    return item;
  });
  for (const item of $("events").children) item.classList.toggle("followed", isFollowed(item.dataset.client));
  for (const event of state.events) if (!known.has(identity(event))) saw(event.client_id);
}

export function showRejects() {
  $("rejects-card").hidden = !state.rejects.length;
  rows($("rejects"), state.rejects.slice(0, 4), (item, it) => {
    const id = `${it.partition}+${it.offset}`;
    if (item.dataset.id === id) return;
    item.dataset.id = id;
    item.replaceChildren(make("b", it.reason.replaceAll("_", " ")), make("span", it.message), make("code", it.excerpt || "(no bytes)"));
  });
}
