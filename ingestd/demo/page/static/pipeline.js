// The pipeline as a row of steps, with dots that move between them.

import { $, colourOf, countUp, createElement, fillKeyedList, fillList, formatBytes, formatClock, formatSeconds, isS3, numberFormat, partitionName, plural, previous, setText, shortName, showNameAndValue, sourceName, state, sumOf, topEntries } from "./base.js";
import { openObject } from "./object_viewer.js";

export function showHeader() {
  const { status, controls } = state;
  let word = status.phase, tone = "good";
  if (state.verification) [word, tone] = state.verification.ok ? ["verified", "good"] : ["problems found", "bad"];
  else if (state.verifying) [word, tone] = ["verifying", "warn"];
  else if (status.sink_error) [word, tone] = [isS3() || controls.outage_left ? "S3 is down" : "store is down", "bad"];
  else if (status.phase === "starting" || status.phase === "draining") tone = "warn";
  else if (status.phase === "stopped") tone = "";
  else if (controls.paused) [word, tone] = ["paused", "warn"];
  else if (status.reasons.length) [word, tone] = [status.reasons[0].code.replaceAll("_", " "), "bad"];
  setText("status", word);
  $("status").className = `pill ${tone}`;
  setText("route", `${status.source} → ${state.destination}`);
  const { duration } = state;
  setText("clock", duration ? `${formatClock(Math.min(status.uptime, duration))} of ${formatClock(duration)}` : formatClock(status.uptime));
  $("run-track").hidden = !duration;
  if (duration) $("run-bar").style.width = `${Math.min(100, (100 * status.uptime) / duration)}%`;
}

export function showPipeline() {
  const { status, controls } = state;
  const { totals } = status;
  setText("source-name", status.source === "simulator" ? "Simulated events" : sourceName());
  const rate = state.rate;
  setText("rate", rate >= 100 ? numberFormat.format(Math.round(rate)) : rate.toFixed(1));
  fillList($("types"), topEntries(totals.accepted_by_type, 5), (item, [type, n]) => showNameAndValue(item, type, numberFormat.format(n), colourOf(type)));
  countUp("accepted", sumOf(totals.accepted_by_type));
  countUp("rejected", sumOf(totals.rejected_by_reason));
  fillList($("reasons"), topEntries(totals.rejected_by_reason, 3), (item, [reason, n]) => showNameAndValue(item, reason.replaceAll("_", " "), numberFormat.format(n)));
  countUp("buffered", totals.in_flight);
  showBatches(status);
  showStore(totals);
  showTable();
  $("step-source").classList.toggle("busy", controls.burst_left > 0);
  $("step-source").classList.toggle("warned", controls.paused);
  $("step-store").classList.toggle("down", Boolean(status.sink_error) || controls.outage_left > 0);
  $("link-3").classList.toggle("cut", Boolean(status.sink_error) || controls.outage_left > 0);
  $("link-4").classList.toggle("cut", controls.outage_left > 0);
  highlight("step-validate", previous && sumOf(totals.rejected_by_reason) > sumOf(previous.status.totals.rejected_by_reason) + 9);
}

function highlight(id, when) {
  if (!when) return;
  $(id).classList.add("warned");
  setTimeout(() => $(id).classList.remove("warned"), 2500);
}

function showBatches(status) {
  const many = status.partitions.length > 3;
  $("batches").classList.toggle("many", many);
  fillList($("batches"), status.partitions, (item, it) => {
    if (!item.firstChild) {
      const line = createElement("div");
      line.append(createElement("span"), createElement("b"));
      const track = createElement("div", undefined, "track");
      track.append(createElement("i"));
      item.append(line, track);
    }
    const waiting = it.sealed_batches > 0;
    item.classList.toggle("waiting", waiting);
    setText(item.firstChild.firstChild, `${status.queue ? it.topic : partitionName(it.topic, it.partition)}${it.halted ? ", halted" : waiting ? `, ${it.sealed_batches} waiting` : ""}`);
    setText(item.firstChild.lastChild, many ? numberFormat.format(it.batch_records) : plural(it.batch_records, status.queue ? "message" : "record"));
    item.lastChild.firstChild.style.width = `${Math.min(100, (100 * (it.batch_age || 0)) / state.interval)}%`;
  });
  const more = state.partitions - status.partitions.length;
  setText("memory", `${more > 0 ? `and ${plural(more, "partition")} more; ` : ""}${formatBytes(status.buffered_bytes)} of ${formatBytes(status.budget_bytes)} memory`);
}

function showStore(totals) {
  countUp("objects", totals.objects);
  setText("object-bytes", `${isS3() ? "in S3" : "in a directory"}, ${formatBytes(totals.object_bytes)}`);
  const known = previous ? new Set(previous.objects.map((it) => it.key)) : null;
  for (const it of state.objects) if (known && !known.has(it.key) && !it.quarantine) animateDot("link-4", "var(--good)", true);
  fillKeyedList($("object-list"), state.objects.slice(0, 5), (it) => it.key, (it) => {
    const item = createElement("li", undefined, it.quarantine ? "quarantine" : "");
    const button = createElement("button");
    button.type = "button";
    button.title = `Show ${it.key}`;
    const name = shortName(it.key);
    button.append(createElement("span", it.quarantine ? `${name}, bad` : name), createElement("b", plural(it.rows, it.quarantine ? "line" : "row")));
    button.addEventListener("click", () => openObject(it.key));
    item.append(button);
    return item;
  });
}

function showTable() {
  const { loader } = state;
  document.querySelector("main").classList.toggle("without-table", !loader);
  $("client-card").hidden = $("query-card").hidden = !loader;
  if (!loader) {
    setText("loader-note", "no local table: start with --warehouse local");
    return;
  }
  countUp("files", loader.files_loaded);
  countUp("rows", loader.rows_loaded);
  const lastFailed = loader.failed.at(-1);
  const failed = lastFailed ? `failed to load ${lastFailed.file}: ${lastFailed.error}` : "";
  const waiting = state.controls.outage_left > 0 || loader.error ? "waiting for the store" : "";
  setText("loader-note", failed || waiting || (loader.pending ? `${plural(loader.pending, "file")} pending` : "up to date; each file loaded once"));
  setText("loader-last", loader.last_file ? `last file: ${shortName(loader.last_file)}` : "");
  $("step-loader").classList.toggle("down", Boolean(failed));
  setText("freshness", loader.freshness_s === null ? "–" : formatSeconds(loader.freshness_s));
  if (previous && previous.loader && loader.rows_loaded > previous.loader.rows_loaded) animateDot("link-5", "var(--accent)", true);
}

/** Moves a dot along a link. */
function animateDot(id, tone, box) {
  const link = $(id);
  if (document.hidden || matchMedia("(prefers-reduced-motion: reduce)").matches || link.children.length > 24) return;
  const dot = createElement("i", undefined, box ? "dot box" : "dot");
  dot.style.setProperty("--c", tone);
  link.append(dot);
  const along = link.clientHeight > link.clientWidth ? "top" : "left";
  const frames = { [along]: ["0%", "100%"], opacity: [0, 1, 1, 0] };
  dot.animate(frames, { duration: box ? 900 : 700, easing: "ease-in-out" }).finished.finally(() => dot.remove());
}

export function animateFlow() {
  if (!previous) return;
  const now = state.status.totals, then = previous.status.totals;
  for (const [type, n] of Object.entries(now.accepted_by_type)) {
    const added = Math.min(8, n - (then.accepted_by_type[type] || 0));
    for (let i = 0; i < added; i += 1) {
      const wait = Math.random() * 480;
      setTimeout(() => animateDot("link-1", colourOf(type)), wait);
      setTimeout(() => animateDot("link-2", colourOf(type)), wait + 400);
    }
  }
  const rejected = Math.min(8, sumOf(now.rejected_by_reason) - sumOf(then.rejected_by_reason));
  for (let i = 0; i < rejected; i += 1) setTimeout(() => animateDot("link-1", "var(--kr)"), Math.random() * 480);
  for (let i = 0; i < Math.min(6, now.objects - then.objects); i += 1) setTimeout(() => animateDot("link-3", "var(--good)", true), i * 150);
}

export function showTotals() {
  const { totals } = state.status;
  countUp("total-consumed", totals.consumed);
  countUp("total-landed", totals.landed);
  countUp("total-quarantined", totals.quarantined);
  countUp("total-buffered", totals.in_flight);
  countUp("total-skipped", totals.skipped);
  $("total-skipped-box").hidden = !totals.skipped;
  countUp("total-released", totals.released);
  $("total-released-box").hidden = !totals.released;
  for (const [id, n] of [["bar-landed", totals.landed], ["bar-quarantined", totals.quarantined], ["bar-buffered", totals.in_flight]]) {
    $(id).style.flexGrow = n;
  }
}
