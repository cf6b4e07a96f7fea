// Sends page views and clicks to the collector: docs/collect/website.md explains it.
(() => {
  const { key = "web", endpoint, consent: mode, hash } = document.currentScript.dataset;
  const url = `${endpoint || new URL("/v1/events", document.currentScript.src)}?key=${encodeURIComponent(key)}`;
  const MAX_EVENTS = 200; // in the queue, the latest
  const MAX_CHARS = 2e4; // of a request, of 3 bytes at most: browsers let 64 KiB outlive a page
  const SESSION_MS = 30 * 60e3; // without events
  const TIMEOUT_MS = 15e3;
  const MAX_WAIT_MS = 300e3; // between attempts
  const EVENT = "ingestd.event."; // its time, number and id follow

  // What cannot or may not be stored lives as long as the page.
  const memory = new Map();
  const storage = (use) => {
    try {
      return use(localStorage);
    } catch {} // blocked, or full
  };
  const read = (name) => memory.get(name) ?? storage((it) => it.getItem(name)) ?? null;
  const write = (name, value, mayStore = isIdentified()) => {
    memory.delete(name);
    if (!mayStore || storage((it) => (it.setItem(name, value), true)) !== true) memory.set(name, value);
  };
  const remove = (name) => {
    memory.delete(name);
    storage((it) => it.removeItem(name));
  };
  const names = (prefix) => [...memory.keys(), ...(storage(Object.keys) || [])].filter((it) => it.startsWith(prefix));
  const queued = () => names(EVENT).sort();

  let consent = { 1: true, 0: false }[read("ingestd.consent")]; // undefined: nobody asked
  const isIdentified = () => !navigator.globalPrivacyControl && (consent ?? !mode);
  const isHeld = () => mode === "required" && consent === undefined;
  const isAnonymous = () => navigator.globalPrivacyControl || (mode === "anonymous" && !consent);

  // Only secure contexts have randomUUID.
  const newId = () => crypto.randomUUID?.() ?? crypto.getRandomValues(new Uint32Array(4)).join("-");

  const clientId = () => {
    if (isAnonymous()) return "anonymous";
    const id = read("ingestd.client") || newId();
    write("ingestd.client", id);
    return id;
  };
  const sessionId = () => {
    if (isAnonymous()) return;
    let [id, last] = (read("ingestd.session") || "").split(" ");
    if (!(Date.now() - last < SESSION_MS)) id = newId();
    write("ingestd.session", `${id} ${Date.now()}`);
    return id;
  };
  const cut = (text, length) => {
    const short = String(text).slice(0, length);
    return short.toWellFormed?.() ?? short; // no half characters
  };
  const address = () => (hash === undefined ? location.href.split("#")[0] : location.href);

  let count = 1e6; // sorted as text
  // Every attempt sends this text: a repeat has the same id.
  const track = (type, properties) => {
    if (consent === false && mode !== "anonymous") return;
    const now = new Date();
    const event_id = newId();
    const event = {
      event_type: cut(type, 256),
      event_id,
      client_id: clientId(),
      event_timestamp: now.toISOString(),
      page_url: cut(address(), 8192),
      session_id: sessionId(),
      device_type: /Mobi/.test(navigator.userAgent) ? "mobile" : "desktop",
      campaign_id: new URLSearchParams(location.search).get("utm_campaign")?.slice(0, 256),
      consent,
      properties: { title: cut(document.title, 256), language: navigator.language, ...properties },
    };
    write(`${EVENT}${+now}.${count++}.${event_id}`, JSON.stringify(event));
    queued().slice(0, -MAX_EVENTS).forEach(remove);
    timer || send();
  };

  let shown; // the address of the last page view
  let before = document.referrer;
  const page = () => {
    track("web_visit", { referrer: cut(before, 8192) });
    before = shown = address();
  };
  const changed = () => shown !== address() && page();

  const leaving = new Set(); // the names of events that are on their way
  let failures = 0;
  let busy, timer;
  const batch = () => {
    const taken = [];
    let text = "";
    for (const name of queued().filter((it) => !leaving.has(it))) {
      const more = `${text}${text && ","}${read(name)}`;
      if (text && more.length > MAX_CHARS) break;
      taken.push(name);
      text = more;
    }
    return [taken, `[${text}]`];
  };

  const post = async () => {
    const [taken, body] = batch();
    if (!taken.length) return;
    taken.forEach(leaving.add, leaving);
    let status, wait;
    try {
      // Text needs no preflight.
      const response = await fetch(url, {
        method: "POST",
        body,
        keepalive: body.length <= MAX_CHARS + 2,
        credentials: "omit",
        signal: AbortSignal.timeout?.(TIMEOUT_MS),
      });
      status = response.status;
      wait = response.headers.get("Retry-After") * 1e3;
    } catch {} // no connection
    taken.forEach(leaving.delete, leaving);
    if (!status || status === 429 || status >= 500) {
      const backoff = 1e3 * 2 ** failures++ * (1 + Math.random());
      timer = setTimeout(send, Math.min(MAX_WAIT_MS, Math.max(wait || 0, backoff)));
      return;
    }
    if (status >= 400) console.warn(`ingestd: ${taken.length} events were refused with ${status}`);
    taken.forEach(remove);
    failures = 0;
    await post();
  };

  const send = async () => {
    if (busy || isHeld()) return;
    timer = clearTimeout(timer);
    busy = true; // and one tab at a time, for they share the queue
    await (navigator.locks ? navigator.locks.request("ingestd", post) : post());
    busy = false;
  };

  // A beacon has no answer: the next page sends its events again.
  const leave = () => {
    for (;;) {
      const [taken, body] = batch();
      if (!taken.length || isHeld() || !navigator.sendBeacon(url, body)) return;
      taken.forEach(leaving.add, leaving);
    }
  };
  const back = () => {
    leaving.clear();
    send();
  };

  for (const name of ["pushState", "replaceState"]) {
    const original = history[name];
    history[name] = function (...given) {
      original.apply(this, given);
      changed();
    };
  }
  addEventListener("popstate", changed);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", ({ persisted }) => persisted && (back(), page()));
  addEventListener("online", send);
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : back()));
  const clicked = ({ target }) => {
    const element = target.closest?.("[data-ingestd],a[href],area[href]");
    if (!element) return;
    const properties = { href: element.href, element_id: element.id || undefined };
    for (const [name, value] of Object.entries(element.dataset))
      if (name.startsWith("ingestd")) properties[name.slice(7).toLowerCase() || "name"] = value;
    track("web_click", properties);
  };
  for (const kind of ["click", "auxclick"]) document.addEventListener(kind, clicked, true);

  const api = {
    track,
    page,
    identify: (id) => write("ingestd.client", cut(id, 256)),
    consent(given) {
      const known = [...memory];
      consent = Boolean(given);
      if (consent) known.forEach(([name, value]) => write(name, value));
      else names("ingestd.").forEach(remove);
      write("ingestd.consent", consent ? "1" : "0", true); // a refusal must be remembered, too
      send();
    },
    push: (...calls) => calls.forEach(([name, ...given]) => api[name](...given)),
  };
  const early = window.ingestd;
  window.ingestd = api;
  if (early) api.push(...early);
  document.prerendering ? document.addEventListener("prerenderingchange", page, { once: true }) : page();
})();
