// The presenter's controls, and the switch between light and dark.

import { $, setText, state } from "./base.js";

export function showControls() {
  const { controls, status } = state;
  $("controls").hidden = !controls.names.length || state.ended;
  for (const button of $("controls").children) {
    const name = button.dataset.control;
    button.hidden = !controls.names.includes(name);
    button.disabled = status.phase !== "running";
    const left = { burst: controls.burst_left, outage: controls.outage_left }[name] || 0;
    button.classList.toggle("on", left > 0 || (name === "pause" && controls.paused));
    if (name === "pause") setText(button.firstChild, controls.paused ? "Resume" : "Pause");
    if (name === "burst") setText(button.firstChild, left ? `Burst ×10, ${Math.ceil(left)} s` : "Burst ×10");
    if (name === "outage") setText(button.firstChild, left ? `S3 is down, ${Math.ceil(left)} s` : "Kill S3 for 20 s");
  }
}

export async function sendControl(name) {
  const control = name === "pause" && state.controls.paused ? "resume" : name;
  if (!state.controls.names.includes(control) || state.status.phase !== "running") return;
  await fetch(`/page/control/${control}`, { method: "POST" }).catch(() => {});
}

export function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("textarea, dialog")) return;
  const button = [...$("controls").children].find((it) => it.dataset.key === event.key.toLowerCase());
  if (button && state) sendControl(button.dataset.control);
}

export function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}
