// What a presenter may do.

import { $, state, text } from "./base.js";

export function showControls() {
  const { controls, status } = state;
  const dock = $("dock");
  dock.hidden = !controls.names.length || state.ended;
  for (const button of dock.children) {
    const act = button.dataset.act;
    button.hidden = !controls.names.includes(act);
    button.disabled = status.phase !== "running";
    const left = { burst: controls.burst_left, outage: controls.outage_left }[act] || 0;
    button.classList.toggle("on", left > 0 || (act === "pause" && controls.paused));
    if (act === "pause") text(button.firstChild, controls.paused ? "Resume" : "Pause");
    if (act === "burst") text(button.firstChild, left ? `Burst ×10, ${Math.ceil(left)} s` : "Burst ×10");
    if (act === "outage") text(button.firstChild, left ? `S3 is down, ${Math.ceil(left)} s` : "Kill S3 for 20 s");
  }
}

export async function act(name) {
  const wanted = name === "pause" && state.controls.paused ? "resume" : name;
  if (!state.controls.names.includes(wanted) || state.status.phase !== "running") return;
  await fetch(`/page/control/${wanted}`, { method: "POST" }).catch(() => {});
}

export function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("textarea, dialog")) return;
  const button = [...$("dock").children].find((it) => it.dataset.key === event.key.toLowerCase());
  if (button && state) act(button.dataset.act);
}

export function theme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}
