// What is told: the talking points, what happens at the moment, and the proof at the end.

import { $, make, state, text } from "./base.js";

const CAPTION_SECONDS = 14;

let caption = { text: "", at: 0, index: -1 };

function situation() {
  const { controls, status, pipe } = state;
  if (state.proof) return state.proof.ok
    ? ["Nothing lost, nothing twice. That was live, and it has stopped by itself.", "note-good"]
    : ["The check at the end has found something: see below.", "alert"];
  if (state.verifying) return ["The run has ended. Now every object is read again, and every row is counted.", ""];
  if (status.phase === "draining") return ["The end: what is held lands first, then everything is verified.", ""];
  if (controls.outage_left > 0) return [`S3 is gone for ${Math.ceil(controls.outage_left)} more seconds. Events keep coming, everything is held, nothing is lost.`, "alert"];
  if (status.sink_error) return ["S3 is back. The same objects are written again, and those that exist are not written twice.", "alert"];
  if (controls.burst_left > 0) return [`Ten times the load, for ${Math.ceil(controls.burst_left)} more seconds. The batches just fill faster.`, ""];
  if (controls.paused) return ["The events are paused. What is held lands all the same, when its batch is old enough.", ""];
  return null;
}

function talkingPoints() {
  const simulated = state.status.source === "simulator";
  const minutes = state.duration ? Math.max(1, Math.round(state.duration / 60)) : 0;
  return [
    simulated ? "These are simulated marketing events, in the shape of your real ones." : "These events come from Kafka, as they do in production.",
    minutes ? `${minutes} minute${minutes === 1 ? "" : "s"} of live streaming, from the event to the row in the table.` : "Live streaming, from the event to the row in the table.",
    "In production the same daemon runs around the clock, by itself.",
    "Snowpipe loads each file as it lands, and takes millions of events a day.",
    "A bad event costs nobody else anything: it is set aside, with the reason.",
    state.pipe ? "Features and predictions follow each client as the events arrive." : "Each object can be created only once: that is how a record is never there twice.",
    state.duration ? "It stops by itself, and proves at the end that nothing was lost." : "Whatever fails on the way is tried again; nothing is lost, nothing comes twice.",
  ];
}

export function showCaption() {
  const told = situation();
  const now = performance.now() / 1000;
  let line = caption.text, tone = "";
  if (told) [line, tone] = told;
  else if (caption.told || caption.index < 0 || now - caption.at > CAPTION_SECONDS) {
    const points = talkingPoints();
    caption.index = (caption.index + 1) % points.length;
    caption.at = now;
    line = points[caption.index];
  }
  caption.told = Boolean(told);
  const shape = line.replace(/\d+/g, "");
  if (shape !== caption.shape) {
    $("caption").classList.remove("swap");
    void $("caption").offsetWidth; // so that the animation begins anew
    $("caption").classList.add("swap");
  }
  caption.shape = shape;
  caption.text = line;
  text("caption", line);
  $("caption").classList.toggle("alert", tone === "alert");
  $("caption").classList.toggle("note-good", tone === "note-good");
}

export function showProof() {
  const proof = state.proof;
  $("proof").hidden = !proof;
  if (!proof || $("proof-facts").children.length) return;
  $("proof").classList.toggle("bad", !proof.ok);
  text("proof-title", proof.ok ? "Verified: each record is there, exactly once" : "Verified, with problems");
  $("proof-facts").append(...[...proof.facts, ...proof.problems].map((line) => make("li", line)));
  scrollTo({ top: 0, behavior: "smooth" });
}
