// The latest events, and the latest rejected ones.

import { $, colourOf, createElement, eventId, fillKeyedList, fillList, formatSeconds, previous, state } from "./base.js";
import { followClient, isFollowed, noteEvent } from "./client.js";

function eventDetail(event) {
  if (event.page_url) return event.page_url.replace(/^https?:\/\/[^/]*/, "") || "/";
  if (event.campaign_id) return event.campaign_id;
  return typeof event.duration_s === "number" ? formatSeconds(event.duration_s) : "";
}

export function createEventItem(event) {
  const item = createElement("li");
  item.style.setProperty("--c", colourOf(event.event_type));
  item.dataset.client = event.client_id;
  const button = createElement("button", event.client_id);
  button.type = "button";
  button.title = "Follow this client";
  button.addEventListener("click", () => followClient(event.client_id));
  item.append(createElement("time", event.event_timestamp.slice(11, 19)), createElement("b", event.event_type), createElement("span", eventDetail(event)), button);
  return item;
}

export function showEvents() {
  const known = new Set(previous ? previous.events.map(eventId) : []);
  fillKeyedList($("events"), state.events.slice(0, 10), eventId, createEventItem);
  for (const item of $("events").children) item.classList.toggle("followed", isFollowed(item.dataset.client));
  for (const event of state.events) if (!known.has(eventId(event))) noteEvent(event.client_id);
}

export function showRejects() {
  $("rejects-card").hidden = !state.rejects.length;
  fillList($("rejects"), state.rejects.slice(0, 4), (item, it) => {
    if (item.dataset.id === it.record) return;
    item.dataset.id = it.record;
    item.replaceChildren(createElement("b", it.reason.replaceAll("_", " ")), createElement("span", it.message), createElement("code", it.excerpt || "(no bytes)"));
  });
}
