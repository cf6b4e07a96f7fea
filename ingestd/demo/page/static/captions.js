// The line above the pipeline: what happens at the moment, or else a talking point; and the verification at the end.

import { $, createElement, plural, setText, sourceName, state } from "./base.js";

const CAPTION_SECONDS = 14;

const caption = { text: "", shape: "", at: 0, index: -1, isEvent: false };

/** The text for what happens now, with its tone; null where nothing special happens. */
function currentEvent() {
  const { controls, status, verification } = state;
  if (verification) return verification.ok
    ? ["Nothing lost, nothing duplicated. The live run has ended by itself.", "good"]
    : ["The verification found problems: see below.", "alert"];
  if (state.verifying) return ["The run has ended. Now every object is read again and every row is counted.", ""];
  if (status.phase === "draining") return ["The run is ending: buffered events are written first, then everything is verified.", ""];
  if (controls.outage_left > 0) return [`S3 is down for ${Math.ceil(controls.outage_left)} more seconds. Events keep coming and are buffered: nothing is lost.`, "alert"];
  if (status.sink_error) return ["S3 is back. Interrupted uploads are repeated; objects that exist are not written twice.", "alert"];
  if (controls.burst_left > 0) return [`Ten times the load for ${Math.ceil(controls.burst_left)} more seconds. The batches fill faster.`, ""];
  if (controls.paused) return ["The events are paused. Buffered events are still written when their batch is old enough.", ""];
  return null;
}

function talkingPoints() {
  const minutes = state.duration ? Math.max(1, Math.round(state.duration / 60)) : 0;
  return [
    state.status.source === "simulator" ? "These are simulated marketing events, in the same shape as your real ones." : `These events come from ${sourceName()}, as in production.`,
    `${minutes ? `${plural(minutes, "minute")} of live` : "Live"} streaming, from the event to the row in the table.`,
    "In production the same daemon runs around the clock, unattended.",
    "Snowpipe loads each file as it arrives, and handles millions of events a day.",
    "An invalid event does not affect the others: it goes to the quarantine, with the reason.",
    state.loader ? "Features and predictions for each client follow as the events arrive." : "Each object can be created only once, so no record is stored twice.",
    state.duration ? "The run stops by itself, and verifies at the end that nothing was lost." : "Whatever fails is retried: nothing is lost, nothing is duplicated.",
  ];
}

export function showCaption() {
  const event = currentEvent();
  const now = performance.now() / 1000;
  let line = caption.text, tone = "";
  if (event) [line, tone] = event;
  else if (caption.isEvent || caption.index < 0 || now - caption.at > CAPTION_SECONDS) {
    const points = talkingPoints();
    caption.index = (caption.index + 1) % points.length;
    caption.at = now;
    line = points[caption.index];
  }
  caption.isEvent = Boolean(event);
  const shape = line.replace(/\d+/g, ""); // a countdown is not a new caption
  if (shape !== caption.shape) {
    $("caption").classList.remove("swap");
    void $("caption").offsetWidth; // restarts the animation
    $("caption").classList.add("swap");
  }
  caption.shape = shape;
  caption.text = line;
  setText("caption", line);
  $("caption").classList.toggle("alert", tone === "alert");
  $("caption").classList.toggle("good", tone === "good");
}

export function showVerification() {
  const { verification } = state;
  $("verification").hidden = !verification;
  if (!verification || $("verification-facts").children.length) return;
  $("verification").classList.toggle("bad", !verification.ok);
  setText("verification-title", verification.ok ? "Verified: every record is stored exactly once" : "Verification found problems");
  $("verification-facts").append(...[...verification.facts, ...verification.problems].map((line) => createElement("li", line)));
  scrollTo({ top: 0, behavior: "smooth" });
}
