// The pipeline as a picture.

import { $, before, bytes, clock, colour, count, isS3, keyed, make, named, number, plural, ranked, rows, seconds, short, state, text, total } from "./base.js";
import { look } from "./table.js";

export function showTop() {
  const { status, controls } = state;
  let word = status.phase, tone = "good";
  if (state.proof) [word, tone] = state.proof.ok ? ["verified", "good"] : ["problems found", "bad"];
  else if (state.verifying) [word, tone] = ["verifying", "warn"];
  else if (status.sink_error) [word, tone] = [isS3() || controls.outage_left ? "S3 is down" : "the store is down", "bad"];
  else if (status.phase === "starting" || status.phase === "draining") tone = "warn";
  else if (status.phase === "stopped") tone = "";
  else if (controls.paused) [word, tone] = ["paused", "warn"];
  else if (status.reasons.length) [word, tone] = [status.reasons[0].code.replaceAll("_", " "), "bad"];
  text("status", word);
  $("status").className = `pill ${tone}`;
  text("route", `${status.source} → ${state.place}`);
  const upTo = state.duration;
  text("clock", upTo ? `${clock(Math.min(status.uptime, upTo))} of ${clock(upTo)}` : clock(status.uptime));
  $("run-track").hidden = !upTo;
  if (upTo) $("run-bar").style.width = `${Math.min(100, (100 * status.uptime) / upTo)}%`;
}

export function showFlow() {
  const { status, controls } = state;
  const { totals } = status;
  text("source-name", status.source === "simulator" ? "Simulated events" : "Kafka");
  const rate = state.rate;
  text("rate", rate >= 100 ? number.format(Math.round(rate)) : rate.toFixed(1));
  rows($("kinds"), ranked(totals.accepted_by_type, 5), (item, [kind, n]) => named(item, kind, number.format(n), colour(kind)));
  count("accepted", total(totals.accepted_by_type));
  count("rejected", total(totals.rejected_by_reason));
  rows($("reasons"), ranked(totals.rejected_by_reason, 3), (item, [reason, n]) => named(item, reason.replaceAll("_", " "), number.format(n)));
  count("held", totals.in_flight);
  showBatches(status);
  showStore(totals);
  showTable();
  $("st-source").classList.toggle("busy", controls.burst_left > 0);
  $("st-source").classList.toggle("warned", controls.paused);
  $("st-store").classList.toggle("down", Boolean(status.sink_error) || controls.outage_left > 0);
  $("link-3").classList.toggle("cut", Boolean(status.sink_error) || controls.outage_left > 0);
  $("link-4").classList.toggle("cut", controls.outage_left > 0);
  flash("st-validate", before && total(totals.rejected_by_reason) > total(before.status.totals.rejected_by_reason) + 9);
}

function flash(id, when) {
  if (!when) return;
  $(id).classList.add("warned");
  setTimeout(() => $(id).classList.remove("warned"), 2500);
}

function showBatches(status) {
  const many = status.partitions.length > 3;
  $("batches").classList.toggle("many", many);
  rows($("batches"), status.partitions, (item, it) => {
    if (!item.firstChild) {
      const line = make("div");
      line.append(make("span"), make("b"));
      const track = make("div", undefined, "track");
      track.append(make("i"));
      item.append(line, track);
    }
    const waiting = it.sealed_batches > 0;
    item.classList.toggle("waiting", waiting);
    text(item.firstChild.firstChild, it.halted ? `P${it.partition}, halted` : waiting ? `P${it.partition}, ${it.sealed_batches} waiting` : `P${it.partition}`);
    text(item.firstChild.lastChild, many ? number.format(it.batch_records) : plural(it.batch_records, "record"));
    item.lastChild.firstChild.style.width = `${Math.min(100, (100 * (it.batch_age || 0)) / state.interval)}%`;
  });
  const more = state.partitions - status.partitions.length;
  text("budget", `${more > 0 ? `and ${plural(more, "partition")} more; ` : ""}${bytes(status.buffered_bytes)} of ${bytes(status.budget_bytes)} memory`);
}

function showStore(totals) {
  count("objects", totals.objects);
  text("object-bytes", `${isS3() ? "in S3" : "in a directory"}, ${bytes(totals.object_bytes)}`);
  const known = before ? new Set(before.objects.map((it) => it.key)) : null;
  for (const it of state.objects) if (known && !known.has(it.key) && !it.quarantine) send("link-4", "var(--good)", true);
  keyed($("object-list"), state.objects.slice(0, 5), (it) => it.key, (it) => {
    const item = make("li", undefined, it.quarantine ? "quarantine" : "");
    const button = make("button");
    button.type = "button";
    button.title = `Look into ${it.key}`;
    const name = short(it.key);
    button.append(make("span", it.quarantine ? `${name}, bad` : name), make("b", plural(it.rows, it.quarantine ? "line" : "row")));
    button.addEventListener("click", () => look(it.key));
    item.append(button);
    return item;
  });
}

function showTable() {
  const pipe = state.pipe;
  document.querySelector("main").classList.toggle("bare", !pipe);
  $("client-card").hidden = $("query-card").hidden = !pipe;
  if (!pipe) {
    text("pipe-note", "no local table: start with --warehouse local");
    return;
  }
  count("files", pipe.files);
  count("rows", pipe.rows);
  const failed = pipe.failed.length ? `${plural(pipe.failed.length, "file")} failed: ${pipe.failed[0]}` : "";
  const cut = state.controls.outage_left > 0 || pipe.error ? "waits for the store" : "";
  text("pipe-note", failed || cut || (pipe.pending ? `${plural(pipe.pending, "file")} pending` : "up to date; each file once"));
  text("pipe-last", pipe.last ? `the last: ${short(pipe.last)}` : "");
  $("st-pipe").classList.toggle("down", Boolean(failed));
  text("fresh", pipe.freshness === null ? "–" : seconds(pipe.freshness));
  if (before && before.pipe && pipe.rows > before.pipe.rows) send("link-5", "var(--accent)", true);
}

/** Something that moves along a link. */
function send(id, tone, box) {
  const link = $(id);
  if (document.hidden || matchMedia("(prefers-reduced-motion: reduce)").matches || link.children.length > 24) return;
  const dot = make("i", undefined, box ? "dot box" : "dot");
  dot.style.setProperty("--c", tone);
  link.append(dot);
  const along = link.clientHeight > link.clientWidth ? "top" : "left";
  const frames = { [along]: ["0%", "100%"], opacity: [0, 1, 1, 0] };
  dot.animate(frames, { duration: box ? 900 : 700, easing: "ease-in-out" }).finished.finally(() => dot.remove());
}

export function showMoving() {
  if (!before) return;
  const now = state.status.totals, then = before.status.totals;
  for (const [kind, n] of Object.entries(now.accepted_by_type)) {
    const fresh = Math.min(8, n - (then.accepted_by_type[kind] || 0));
    for (let i = 0; i < fresh; i += 1) {
      const wait = Math.random() * 480;
      setTimeout(() => send("link-1", colour(kind)), wait);
      setTimeout(() => send("link-2", colour(kind)), wait + 400);
    }
  }
  const bad = Math.min(8, total(now.rejected_by_reason) - total(then.rejected_by_reason));
  for (let i = 0; i < bad; i += 1) setTimeout(() => send("link-1", "var(--kr)"), Math.random() * 480);
  for (let i = 0; i < Math.min(6, now.objects - then.objects); i += 1) setTimeout(() => send("link-3", "var(--good)", true), i * 150);
}

export function showSums() {
  const { totals } = state.status;
  count("eq-consumed", totals.consumed);
  count("eq-landed", totals.landed);
  count("eq-quarantined", totals.quarantined);
  count("eq-held", totals.in_flight);
  count("eq-released", totals.released);
  $("eq-released-box").hidden = !totals.released;
  for (const [id, n] of [["bar-landed", totals.landed], ["bar-quarantined", totals.quarantined], ["bar-held", totals.in_flight]]) {
    $(id).style.flexGrow = n;
  }
}
