"use strict";
// Text from the server is always set as text, never as markup. The page's policy forbids markup, too.

const WINDOW_MS = 120_000;
const QUIET_MS = 30_000;
const STORAGE_NAME = "millrace-key";
const $ = (id) => document.getElementById(id);

// ---- Text and numbers ----

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
// Rounded down: a quota that is partly used must not look unused.
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2, roundingMode: "floor" });

const count = (n) => (n < 1e6 ? whole : compact).format(n);
const rate = (n) => (n < 100 ? tenths : whole).format(n);

function bytes(n) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return `${tenths.format(n)} ${units[unit]}`;
}

function duration(ms) {
  if (ms < 1_000) return `${whole.format(ms)} ms`;
  if (ms < 90_000) return `${tenths.format(ms / 1_000)} s`;
  if (ms < 5_400_000) return `${tenths.format(ms / 60_000)} min`;
  return `${tenths.format(ms / 3_600_000)} h`;
}

const ago = (ms) => (ms < 2_000 ? "just now" : `${duration(Math.floor(ms / 1_000) * 1_000)} ago`);

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function element(name, className, ...inside) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}

/** Replaces the items of a list, but only when they have changed, so that a selection in it is kept. */
const shown = new Map();
function fill(id, items, make) {
  const now = JSON.stringify(items);
  if (shown.get(id) !== now) {
    shown.set(id, now);
    $(id).replaceChildren(...items.map(make));
  }
  $(`no-${id}`).hidden = items.length > 0;
}

// ---- The state of the server ----

const samples = [];

function showState(state) {
  setText("version", state.version);
  showReadiness(state.unready);
  setText("accepted", state.rates ? rate(state.rates.accepted) : "–");
  setText("stored", state.rates ? rate(state.rates.stored) : "–");
  const { backlog } = state;
  setText("backlog", backlog ? count(backlog.events) : "–");
  setText("backlog-bytes", backlog ? bytes(backlog.bytes) : "the stream cannot be reached");
  setText("freshness", backlog ? (backlog.events ? duration(backlog.oldest_age_ms) : "current") : "–");
  samples.push({ at: Date.now(), ...state.rates });
  draw();
  if (state.today) showToday(state.today);
  showRejected(state.rejected);
  showLetters(state.letters);
  for (const time of document.querySelectorAll("time")) {
    const text = ago(Math.max(0, state.at_ms - Number(time.dataset.ms)));
    if (time.textContent !== text) time.textContent = text;
  }
}

function showReadiness(unready) {
  $("readiness").hidden = false;
  $("readiness").className = unready.length ? "state bad" : "state good";
  setText("readiness", unready.length ? "Not ready" : "Ready");
  $("unready").hidden = unready.length === 0;
  if (unready.join() !== shown.get("reasons")) {
    shown.set("reasons", unready.join());
    $("reasons").replaceChildren(...unready.map((reason) => element("li", "", reason)));
  }
}

function showToday({ day, projects, more }) {
  setText("day", more ? `${day} UTC, ${count(more)} more projects` : `${day} UTC`);
  setText("no-projects", "No project has a key yet: millrace project create NAME --plan PLAN");
  fill("projects", projects, ({ name, stored, duplicates, dead, left }) => {
    const project = element("th", "", name);
    project.scope = "row";
    const rest = left === null ? "unlimited" : count(left);
    return element("tr", "", project, element("td", "", count(stored)), element("td", "", count(duplicates)),
      element("td", dead ? "some" : "", count(dead)), element("td", left === 0 ? "little" : "", rest));
  });
}

function moment(ms) {
  const time = element("time");
  time.dateTime = new Date(ms).toISOString();
  time.dataset.ms = ms;
  return time;
}

const KINDS = { event: "event", request: "request", dead: "dead letter", conflict: "conflict" };

function showRejected({ sums, last }) {
  setText("no-refused", sums ? "Nothing was refused today." : "Waiting for the database…");
  fill("refused", sums ?? [], ({ project, kind, code, count: n }) => {
    const name = element("th", "", project);
    name.scope = "row";
    return element("tr", "", name, element("td", "text", KINDS[kind]), element("td", "text", code), element("td", "", count(n)));
  });
  fill("rejected", last, ({ at_ms, project, kind, code, field, message, times }) => {
    const what = element("span", "code", times > 1 ? `${code} × ${count(times)}` : code);
    const head = element("div", "head", what, element("span", "", `${KINDS[kind]} of ${project ?? "no project"}`), moment(at_ms));
    return element("li", "", head, element("div", "reason", !field || message.startsWith(field) ? message : `${field}: ${message}`));
  });
}

function showLetters(letters) {
  setText("no-letters", letters ? "No dead letters." : "Waiting for the database…");
  fill("letters", letters ?? [], ({ at_ms, project, events, reason }) => {
    const what = element("span", "code", events === 1 ? "1 event" : `${count(events)} events`);
    const head = element("div", "head", what, element("span", "", project ?? "no project"), moment(at_ms));
    return element("li", "", head, element("div", "reason", reason));
  });
}

// ---- The chart ----

function draw() {
  const now = Date.now();
  while (samples.length && samples[0].at < now - WINDOW_MS - 2_000) samples.shift();
  const highest = Math.max(...samples.map(({ accepted = 0, stored = 0 }) => Math.max(accepted, stored)));
  const top = roundUp(highest);
  const x = ({ at }) => (600 * (1 - (now - at) / WINDOW_MS)).toFixed(1);
  const line = (of) => {
    let path = "";
    let drawing = false;
    for (const sample of samples) {
      const known = sample[of] !== undefined;
      if (known) path += `${drawing ? "L" : "M"}${x(sample)} ${(149 - 146 * sample[of] / top).toFixed(1)}`;
      drawing = known;
    }
    return path;
  };
  $("accepted-line").setAttribute("d", line("accepted"));
  $("stored-line").setAttribute("d", line("stored"));
  const area = line("stored").split("M").filter(Boolean).map((piece) => {
    const ends = piece.split("L").map((point) => point.split(" ")[0]);
    return `M${ends[0]} 150L${piece}L${ends[ends.length - 1]} 150Z`;
  });
  $("stored-area").setAttribute("d", area.join(""));
  setText("scale", `${count(top)}/s`);
}

function roundUp(n) {
  if (n <= 10) return 10;
  const unit = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= n);
}

// ---- The connection ----

let source = null;
let retryTimer = 0;
let lastMessageAt = 0;

function connection(text, className) {
  $("connection").className = `state ${className}`;
  setText("connection", text);
  $("main").classList.toggle("stale", className !== "good");
}

function connect() {
  clearTimeout(retryTimer);
  source?.close();
  source = new EventSource("/status/stream");
  source.onopen = () => { lastMessageAt = Date.now(); };
  source.onmessage = ({ data }) => {
    lastMessageAt = Date.now();
    connection("Live", "good");
    showState(JSON.parse(data));
  };
  source.onerror = () => {
    connection("Connection lost, reconnecting", "bad");
    samples.push({ at: Date.now() });
    // The browser reconnects by itself, except after an error status.
    if (source.readyState === EventSource.CLOSED) retryTimer = setTimeout(connect, 3_000);
  };
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    // A hidden page needs no updates.
    clearTimeout(retryTimer);
    source?.close();
    samples.push({ at: Date.now() });
  } else {
    connect();
  }
});

setInterval(() => {
  const silent = Date.now() - lastMessageAt;
  if (lastMessageAt && silent > QUIET_MS && $("connection").classList.contains("good")) {
    connection(`No update for ${duration(silent)}`, "");
  }
}, 5_000);

// ---- A test event ----

function takeKey() {
  if (!location.hash.startsWith("#key=")) return;
  const raw = location.hash.slice(5);
  history.replaceState(null, "", location.pathname);
  let key = raw;
  try { key = decodeURIComponent(raw); } catch { /* not encoded: use it unchanged */ }
  keepKey(key);
  $("key").value = key;
}

function keepKey(key) {
  // Without storage, the key is lost when the page is closed.
  try { sessionStorage.setItem(STORAGE_NAME, key); } catch { /* storage is disabled */ }
}

function keptKey() {
  try { return sessionStorage.getItem(STORAGE_NAME) ?? ""; } catch { return ""; }
}

/** Sends the properties unchanged: the server checks them, and parsing here could lose digits of numbers. */
function eventBody() {
  const properties = $("properties").value.trim();
  const name = JSON.stringify($("name").value);
  return properties ? `{"name": ${name}, "properties": ${properties}}` : `{"name": ${name}}`;
}

function curl(key) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  return `curl ${location.origin}/v1/events -H ${quoted(`Authorization: Bearer ${key}`)} \\\n`
    + `  -H 'Content-Type: application/json' -H 'Prefer: wait=5' \\\n  -d ${quoted(eventBody())}`;
}

function outcome(status, answer) {
  if (status === 200 || status === 202) {
    const parts = ["stored", "duplicate", "dead"].filter((part) => answer[part]).map((part) => `${part} ${answer[part]}`);
    if (answer.rejected?.length) parts.push(`rejected ${answer.rejected.length}`);
    const done = parts.join(", ") || "accepted, not stored yet";
    return [answer.stored === 1 ? "good" : "", done[0].toUpperCase() + done.slice(1)];
  }
  return ["bad", answer.rejected?.[0]?.message ?? answer.message ?? "Refused"];
}

async function send(submitted) {
  submitted.preventDefault();
  const button = $("send").querySelector("button");
  button.disabled = true;
  keepKey($("key").value.trim());
  try {
    const answer = await fetch("/v1/events", {
      method: "POST",
      headers: {
        "Authorization": `Bearer ${$("key").value.trim()}`,
        "Content-Type": "application/json",
        "Prefer": "wait=5",
      },
      body: eventBody(),
    });
    const text = await answer.text();
    let parsed = {};
    try { parsed = JSON.parse(text); } catch { /* not JSON: shown unchanged */ }
    const [className, done] = outcome(answer.status, parsed);
    const line = element("div", "", element("strong", className, done));
    $("answer").replaceChildren(line, element("pre", "", `HTTP ${answer.status} ${answer.statusText}\n${text}`));
  } catch (error) {
    $("answer").replaceChildren(element("strong", "bad", `No answer: ${error.message}`));
  } finally {
    button.disabled = false;
  }
}

async function copy() {
  const text = curl($("key").value.trim());
  try {
    await navigator.clipboard.writeText(text);
    setText("copied", "Copied.");
  } catch {
    // Browsers allow the clipboard only for https and for this machine. Otherwise select the text for copying by hand.
    $("curl").textContent = text;
    getSelection().selectAllChildren($("curl"));
    setText("copied", "Press Ctrl+C to copy.");
  }
}

function showCurl() {
  setText("copied", "");
  setText("curl", curl("KEY"));
}

$("key").value = keptKey();
takeKey();
addEventListener("hashchange", takeKey);
$("send").addEventListener("submit", send);
$("send").addEventListener("input", showCurl);
$("copy").addEventListener("click", copy);
showCurl();
connect();
