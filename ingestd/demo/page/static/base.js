// What every part of the page uses: the state, and how numbers and lists are shown.

export const $ = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat("en-GB");
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumSignificantDigits: 4 });
const COLOURS = { web_visit: "--k0", email_open: "--k1", email_click: "--k2", advisor_call: "--k3", other: "--k6", rejected: "--kr" };
const SPARE = ["--k4", "--k5"];

export const SVG = "http://www.w3.org/2000/svg";

export let state = null; // the last that came
export let before = null; // the one before it

export function advance(next) {
  [before, state] = [state, next];
}

/** For the large ones, which have to fit. */
function whole(value) {
  return value < 1e6 ? number.format(value) : compact.format(value);
}

export function text(id, value) {
  const element = typeof id === "string" ? $(id) : id;
  if (element.textContent !== String(value)) element.textContent = value;
}

export function make(tag, content, className) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

const counters = new Map();

/** Count up to a number rather than jump; where motion is not wanted, jump. */
export function count(id, value) {
  const running = counters.get(id);
  if (running && running.to === value) return;
  const from = running ? running.now : value;
  const counter = { now: from, to: value };
  counters.set(id, counter);
  if (from >= value || matchMedia("(prefers-reduced-motion: reduce)").matches) {
    counter.now = value;
    text(id, whole(value));
    return;
  }
  const began = performance.now();
  const step = (at) => {
    if (counters.get(id) !== counter) return;
    const share = Math.min(1, (at - began) / 450);
    counter.now = Math.round(from + (value - from) * share);
    text(id, whole(counter.now));
    if (share < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit += 1) size /= 1024;
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function seconds(value) {
  return value < 10 && value % 1 ? `${value.toFixed(1)} s` : value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
}

export function colour(kind) {
  if (!COLOURS[kind]) COLOURS[kind] = SPARE.shift() || "--k6";
  return `var(${COLOURS[kind]})`;
}

export function plural(n, one) {
  return `${number.format(n)} ${one}${n === 1 ? "" : "s"}`;
}

export function total(counts) {
  return Object.values(counts).reduce((sum, n) => sum + n, 0);
}

export function isS3() {
  return state.status.sink.startsWith("s3:");
}

/** Of an object's name, the partition and the offset. */
export function short(key) {
  return key.split("/").pop().replace(/^[^+]*\+0*(\d+)\+0*(\d+).*$/, "P$1 from $2");
}

export function identity(event) {
  return `${event.source_partition}+${event.source_offset}`;
}

export function rows(list, entries, fill) {
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach((entry, index) => {
    if (!list.children[index]) list.append(make("li"));
    fill(list.children[index], entry);
  });
}

/** Newest first; what is there already stays the same element, so that it can be clicked while others come. */
export function keyed(list, entries, key, create) {
  const there = new Map([...list.children].map((it) => [it.dataset.key, it]));
  const anew = list.children.length > 0;
  list.replaceChildren(...entries.map((entry) => {
    const found = there.get(key(entry));
    if (found) {
      found.classList.remove("new");
      return found;
    }
    const item = create(entry);
    item.dataset.key = key(entry);
    if (anew) item.classList.add("new");
    return item;
  }));
}

/** A name and a number in a line, made once and then only changed. */
export function named(item, name, value, tone) {
  if (!item.firstChild) item.append(make("span"), make("b"));
  text(item.children[0], name);
  text(item.children[1], value);
  if (tone) item.style.setProperty("--c", tone);
}

export function ranked(counts, most) {
  const all = Object.entries(counts).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const rest = all.slice(most);
  return rest.length ? [...all.slice(0, most), ["others", rest.reduce((sum, it) => sum + it[1], 0)]] : all;
}
