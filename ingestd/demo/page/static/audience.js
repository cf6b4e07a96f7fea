// What the audience does in the shop, and how it gets there.

import { $, eventId, fillKeyedList, plural, setText, state } from "./base.js";
import { createEventItem } from "./events.js";

export function showAudience() {
  const { audience } = state;
  $("audience-card").hidden = !audience;
  if (!audience) return;
  setText("audience-count", audience.count ? `${plural(audience.count, "event")} of ${plural(audience.visitors, "visitor")}` : "click in the shop, and see it here within seconds");
  $("audience-link").href = audience.url || "/shop";
  setText("audience-link", audience.url ? `${new URL(audience.url).host}/shop` : "Open the shop");
  setText("audience-note", audience.url ? "Scan it: phones in this network are welcome." : "For phones in this network, start with --host 0.0.0.0");
  if (audience.url && $("audience-qr").hidden) {
    $("audience-qr").src = "/shop/qr.svg";
    $("audience-qr").hidden = false;
  }
  fillKeyedList($("audience-events"), audience.events.slice(0, 6), eventId, createEventItem);
}
