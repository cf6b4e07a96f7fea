// The state, and the helpers that show numbers and lists; used by all parts of the page.

export const $ = (id) => document.getElementById(id);
export const numberFormat = new Intl.NumberFormat("en-GB");
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumSignificantDigits: 4 });
const COLOURS = { web_visit: "--k0", email_open: "--k1", email_click: "--k2", advisor_call: "--k3", other: "--k6", rejected: "--kr" };
const SPARE = ["--k4", "--k5"];

export const SVG = "http://www.w3.org/2000/svg";

export let state = null; // the latest from the daemon
export let previous = null; // the state before it

export function setState(next) {
  [previous, state] = [state, next];
}

/** Shortens large numbers, so that they fit. */
function formatWhole(value) {
  return value < 1e6 ? numberFormat.format(value) : compact.format(value);
}

export function setText(id, value) {
  const element = typeof id === "string" ? $(id) : id;
  if (element.textContent !== String(value)) element.textContent = value;
}

export function createElement(tag, content, className) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

const counters = new Map();

/** Counts up to a number; shows it at once where the user prefers reduced motion. */
export function countUp(id, value) {
  const running = counters.get(id);
  if (running && running.to === value) return;
  const from = running ? running.now : value;
  const counter = { now: from, to: value };
  counters.set(id, counter);
  if (from >= value || matchMedia("(prefers-reduced-motion: reduce)").matches) {
    counter.now = value;
    setText(id, formatWhole(value));
    return;
  }
  const started = performance.now();
  const step = (at) => {
    if (counters.get(id) !== counter) return;
    const share = Math.min(1, (at - started) / 450);
    counter.now = Math.round(from + (value - from) * share);
    setText(id, formatWhole(counter.now));
    if (share < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

export function formatClock(seconds) {
  const total = Math.max(0, Math.floor(seconds));
  return `${Math.floor(total / 60)}:${String(total % 60).padStart(2, "0")}`;
}

export function formatBytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit += 1) size /= 1024;
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function formatSeconds(value) {
  return value < 10 && value % 1 ? `${value.toFixed(1)} s` : value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
}

export function colourOf(type) {
  if (!COLOURS[type]) COLOURS[type] = SPARE.shift() || "--k6";
  return `var(${COLOURS[type]})`;
}

export function plural(n, one) {
  return `${numberFormat.format(n)} ${one}${n === 1 ? "" : "s"}`;
}

export function sumOf(counts) {
  return Object.values(counts).reduce((sum, n) => sum + n, 0);
}

export function isS3() {
  return state.status.sink.startsWith("s3:");
}

const SOURCES = { kafka: "Kafka", kinesis: "Kinesis", sqs: "SQS", collector: "the collector" };

export function sourceName() {
  return SOURCES[state.status.source] || state.status.source;
}

/** A short name; the partitions of the shop have its name before theirs. */
export function partitionName(topic, number) {
  return `${topic === "shop" ? "shop " : ""}P${number}`;
}

/** Leaves the middle out of a value that is too long for its place. */
export function shorten(text) {
  return text.length > 20 ? `${text.slice(0, 8)}…${text.slice(-8)}` : text;
}

const CHAIN_NAME = /^([^+]*)\+0*(\d+)\+0*(\d+)[+.].*$/;
const QUEUE_NAME = /^([^+]*)\+\d{8}T(\d\d)(\d\d)(\d\d)\d{3}-\d{7}-([0-9a-f]{6}).*$/;

/** The partition and first offset in an object's key; of a queue, when its first message was received, and digits of its batch. */
export function shortName(key) {
  return key.split("/").pop()
    .replace(CHAIN_NAME, (_, topic, number, from) => `${partitionName(topic, number)} from ${shorten(from)}`)
    .replace(QUEUE_NAME, (_, queue, hours, minutes, seconds, digits) => `${queue} ${hours}:${minutes}:${seconds} ${digits}`);
}

export function eventId(event) {
  return event.source_message_id ?? `${event.source_topic}+${event.source_partition}+${event.source_offset}`;
}

export function fillList(list, entries, fill) {
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach((entry, index) => {
    if (!list.children[index]) list.append(createElement("li"));
    fill(list.children[index], entry);
  });
}

/** Shows entries, newest first. Keeps the elements of known entries, so that they can be clicked while others arrive. */
export function fillKeyedList(list, entries, key, createItem) {
  const existing = new Map([...list.children].map((it) => [it.dataset.key, it]));
  const animates = list.children.length > 0; // not the first entries
  list.replaceChildren(...entries.map((entry) => {
    const found = existing.get(key(entry));
    if (found) {
      found.classList.remove("new");
      return found;
    }
    const item = createItem(entry);
    item.dataset.key = key(entry);
    if (animates) item.classList.add("new");
    return item;
  }));
}

/** Shows a name and a value in a line. */
export function showNameAndValue(item, name, value, tone) {
  if (!item.firstChild) item.append(createElement("span"), createElement("b"));
  setText(item.children[0], name);
  setText(item.children[1], value);
  if (tone) item.style.setProperty("--c", tone);
}

/** The entries with the highest counts; the rest are counted together. */
export function topEntries(counts, limit) {
  const all = Object.entries(counts).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const rest = all.slice(limit);
  return rest.length ? [...all.slice(0, limit), ["others", rest.reduce((sum, it) => sum + it[1], 0)]] : all;
}
