// The dashboard, served at `/`. What it says is figures.js's; here is what it asks, and where the answers go. Rows and
// names of others become text, never HTML.
import { connect } from "/rowcast.js";
import uPlot from "/uplot.js";
import * as say from "/figures.js";

const $ = (id) => document.getElementById(id);

// 1. The page. Elements are kept and filled anew: what is focused, selected or open stays so.

function setText(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Sets texts by the class of their element. */
function put(root, texts) {
  for (const [name, text] of Object.entries(texts)) setText(root.querySelector(`.${name}`), text);
}

/** Keeps copies of a template in `parent`, one for each item, in this order. */
function sync(parent, template, items, keyOf, fill) {
  const there = new Map([...parent.querySelectorAll(":scope > [data-key]")].map((each) => [each.dataset.key, each]));
  const shown = items.map((item) => {
    const key = String(keyOf(item));
    const element = there.get(key) ?? $(template).content.firstElementChild.cloneNode(true);
    element.dataset.key = key;
    there.delete(key);
    fill(element, item);
    return element;
  });
  for (const element of there.values()) element.remove();
  let next = null;
  for (const element of shown.reverse()) {
    if (!element.isConnected || element.nextElementSibling !== next) parent.insertBefore(element, next);
    next = element;
  }
}

/** Puts SQL with a button, or words, or nothing into an element. `about` tells the button from the others. */
function setRemedy(element, text, about) {
  const [code, button, words] = element.children;
  const isSql = Boolean(text) && say.isSql(text);
  element.hidden = !text;
  code.hidden = button.hidden = !isSql;
  setText(code, isSql ? text : "");
  setText(words, isSql ? "" : (text ?? ""));
  button.setAttribute("aria-label", `Copy the SQL for ${about}`);
}

document.addEventListener("click", async ({ target }) => {
  if (!target.matches(".remedy button")) return;
  const code = target.previousElementSibling;
  getSelection().selectAllChildren(code);
  // a page without TLS, away from localhost, has no clipboard: what is selected can still be copied
  const isCopied = await navigator.clipboard?.writeText(code.textContent).then(() => true, () => false);
  target.textContent = isCopied ? "Copied" : "Selected";
  setTimeout(() => (target.textContent = "Copy"), 2_000);
});

// 2. The server is asked: how it stands each second, its metrics each two, the database each ten.

const address = new URL(location.href);
let token = address.searchParams.get("token") ?? sessionStorage.getItem("token");
// in the address a token is seen by anybody who looks on, and kept in the history
address.searchParams.delete("token");
history.replaceState(null, "", address);

/** "asking", "live", "source_down", "gone" or "refused", and since when */
let state = "asking";
let since = Date.now();
let status;
/** whether `measured` has what the server has of the last hour */
let hasHour = false;
/** metrics as of the latest poll, in seconds */
let latest = { time: 0, samples: new Map() };
let watched = [];
/** the database has said something of itself */
let isRead = false;
/** when the server was asked what it has answered last */
let heard = Date.now();
/** Whether what the database has said of itself can still be so. */
const isCurrent = () => state === "live";
/** state and channels: what the database says is asked anew when they change */
let known = "";

async function ask(path) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  return fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(2_000) });
}

async function askStatus() {
  if (state === "refused") return;
  const asked = Date.now();
  try {
    const answer = await ask("/websocket/status");
    if (answer.status === 401) return setState("refused");
    status = await answer.json();
    if (token) sessionStorage.setItem("token", token);
    heard = asked;
    setState(status.status);
  } catch {
    // what passes within half a second is not worth a word
    if (Date.now() - heard > 1_500) setState("gone");
    return;
  }
  const names = Object.keys(status.channels);
  follow(names);
  showStatus();
  const news = [state, ...names].join();
  if (news !== known) void askDatabase().catch(() => {});
  known = news;
}

/** What the server has measured before the page was opened, or while it could not be asked. */
async function askHour() {
  const { now, intervals } = await (await ask("/websocket/hour")).json();
  if (intervals.length === 0) return;
  // by this machine's clock, as the page's own
  const ahead = Date.now() / 1_000 - now;
  const hour = intervals.map((interval) => ({ ...interval, time: interval.time + ahead }));
  const [first, last] = [hour[0].time, hour.at(-1).time];
  measured = [...measured.filter(({ time }) => time < first), ...hour, ...measured.filter(({ time }) => time > last)];
  hasHour = true;
  drawCharts();
}

async function askMetrics() {
  if (state === "gone") {
    // a gap, after which a mean over it would say nothing of the present
    latest = { time: 0, samples: latest.samples };
    hasHour = false;
    chart({ time: Date.now() / 1_000 });
  }
  if (state !== "live" && state !== "source_down") return;
  if (!hasHour) await askHour().catch(() => {});
  const before = latest;
  const text = await (await ask("/metrics")).text();
  latest = { time: Date.now() / 1_000, samples: say.parseMetrics(text) };
  if (before.time) chart(say.measure(before, latest));
}

async function askDatabase() {
  // without its database a server has no more to say than the state does
  if (state !== "live") return;
  const database = await (await ask("/websocket/database")).json();
  $("database-error").hidden = !database.error;
  setText($("database-error"), database.error ?? "");
  if (!database.error) showDatabase(database);
}

async function repeat(pause, task) {
  for (;;) {
    await task().catch(() => {}); // whatever fails is asked again
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function setState(next) {
  if (next !== state) {
    // a server that stands still keeps its sockets open; one that is back need not wait for the next attempt
    if (state === "gone" || next === "gone") client?.wake();
    [state, since] = [next, next === "gone" ? heard : Date.now()];
    $("ask").hidden = state !== "refused";
    sayFeed();
    if (status) showStatus();
    sayFindings();
  }
  const words = say.health(state, since);
  $("top").dataset.state = state;
  setText($("health"), words);
  setText($("lag"), status ? say.lag(state, status) : "");
  document.title = state === "live" ? "rowcast" : `${words} · rowcast`;
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  client?.close();
  client = undefined;
  subscriptions.clear();
  setState("asking");
});

for (const link of document.querySelectorAll("[data-plain]")) {
  link.addEventListener("click", async (event) => {
    if (!token) return;
    event.preventDefault(); // a link can carry a token only in the address
    const text = await (await ask(link.pathname)).text();
    window.open(URL.createObjectURL(new Blob([text], { type: "text/plain" })));
  });
}

// 3. How things stand, and the channels.

/** how many messages have come of each channel; and how many there were, second by second: [{ time, counts }] */
const counts = new Map();
const marks = [];

function showStatus() {
  setText($("version"), status.version);
  setText($("open"), say.openness(status));
  $("clinic").hidden = !status.demo;
  const figures = say.figures(status, latest.samples);
  sync($("figures"), "figure", figures, ([name]) => name, (box, [name, value, unit]) => {
    put(box, { name, value, unit: state === "gone" ? unit.replace("now", "then") : unit });
  });
  showChannels();
}

function showChannels() {
  marks.push({ time: performance.now(), counts: new Map(counts) });
  if (marks.length > 11) marks.shift();
  const [first, last] = [marks[0], marks.at(-1)];
  const rate = (name) => {
    const came = (last.counts.get(name) ?? 0) - (first.counts.get(name) ?? 0);
    return (1_000 * came) / Math.max(1_000, last.time - first.time);
  };
  const channels = say.channelsOf(status, watched);
  sync($("channels"), "channel-rows", channels, ({ name }) => name, (body, channel) => {
    const { name, subscribers, state = "–", drift } = channel;
    const complaint = subscriptions.get(name)?.complaint;
    put(body, {
      name,
      source: say.source(channel),
      subscribers: say.number(subscribers),
      rate: say.number(rate(name)),
      state: say.was(state, isCurrent()),
      drift: [say.wrong(channel), complaint].filter(Boolean).join("; "),
    });
    body.querySelector(".state").dataset.is = isCurrent() ? state : "";
    body.rows[1].hidden = !drift && !complaint;
    setRemedy(body.querySelector(".remedy"), channel.remedy, name);
  });
  sync($("channel"), "channel-option", channels, ({ name }) => name, (option, { name }) => setText(option, name));
  setText($("channels-size"), channels.length);
  $("channels").hidden = $("some-channels").hidden = channels.length === 0;
  $("no-channel").hidden = channels.length > 0;
}

// 4. The feed: a subscription of each channel. Changes wait for the next frame, so that a thousand are drawn at once.

/** changes that a filter can find; lines on the page */
const KEPT = 1_000;
const LINES = 200;
/** channel → { subscription, complaint } */
const subscriptions = new Map();
let client;
/** newest last */
let drawn = [];
let waiting = [];
/** how many came since the last frame, or since the pause */
let arrived = 0;
let isPaused = false;
let frame = 0;
let drawnAt = 0;

function follow(names) {
  client ??= begin();
  for (const name of names) if (!subscriptions.has(name)) subscribe(name);
  for (const [name, { subscription }] of subscriptions) {
    if (names.includes(name)) continue;
    subscription.close();
    subscriptions.delete(name);
  }
}

function begin() {
  const begun = connect("/", token ? { token } : {});
  let pause;
  begun.on("state", (now) => {
    clearTimeout(pause);
    // what passes within half a second is not worth a word
    pause = setTimeout(sayFeed, now === "live" ? 0 : 500);
  });
  return begun;
}

function sayFeed() {
  const words = { live: "live", source_down: "the source is down", connecting: "connecting", idle: "" };
  setText($("feed-state"), state === "gone" ? "not current" : (words[client?.state] ?? ""));
}

function subscribe(name) {
  const entry = { complaint: "" };
  subscriptions.set(name, entry);
  entry.subscription = client.subscribe(name, {}, {
    change(change) {
      counts.set(name, (counts.get(name) ?? 0) + 1);
      take(change);
    },
    resync(reason) {
      take({ entity_type: name, action: "gap", data: { reason }, timestamp: new Date() });
    },
    error({ code, final, message }) {
      if (code === "unknown_channel") {
        // it may be watched again: then another one follows it, and not this one beside that
        entry.subscription?.close();
        if (subscriptions.get(name) === entry) subscriptions.delete(name);
      } else if (final) entry.complaint = `not in the feed: ${message}`;
    },
  });
}

function take(change) {
  arrived++;
  // a page that is hidden draws no frames
  if (waiting.push(change) > 2 * KEPT) waiting = waiting.slice(-KEPT);
  frame ||= requestAnimationFrame(draw);
}

function draw(now) {
  frame = 0;
  // nobody reads faster, and a frame that lays out new lines is a dear one
  if (now - drawnAt < 100) return void (frame = requestAnimationFrame(draw));
  drawnAt = now;
  setText($("held"), isPaused ? `${say.number(arrived)} held` : "");
  if (isPaused) return;
  prepend(waiting);
  drawn = [...drawn, ...waiting].slice(-KEPT);
  waiting = [];
  arrived = 0;
}

function prepend(changes) {
  const [channel, text] = [$("channel").value, $("text").value.trim()];
  const fitting = changes.filter((change) => say.fits(change, channel, text)).slice(-LINES);
  $("feed").prepend(...fitting.reverse().map(lineOf));
  while ($("feed").children.length > LINES) $("feed").lastElementChild.remove();
}

function lineOf(change) {
  const line = $("line").content.firstElementChild.cloneNode(true);
  const { entity_type: channel, action, actor = "" } = change;
  put(line, { time: say.clock(change.timestamp), channel, action, actor });
  line.querySelector(".action").dataset.is = action;
  const row = say.pieces(change).flatMap(([text, isChanged], i) => {
    const piece = document.createElement(isChanged ? "mark" : "span");
    piece.textContent = text;
    return i === 0 ? [piece] : [", ", piece];
  });
  line.querySelector("code").append(...row);
  return line;
}

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  setText($("pause"), isPaused ? "Go on" : "Pause");
  $("feed").classList.toggle("held", isPaused);
  arrived = 0;
  frame ||= requestAnimationFrame(draw);
});

for (const control of [$("channel"), $("text")]) {
  control.addEventListener("input", () => {
    $("feed").replaceChildren();
    $("feed").dataset.empty = "No such change has come.";
    prepend(drawn);
  });
}

// 5. Charts of the last hour.

const LONGEST = 3_600;
/** what was measured, oldest first: each ten seconds by the server, and since the page is open each two seconds by the page */
let measured = [];
const charts = [
  makeChart($("delay"), { p50: "--accent", p99: "--second" }, say.seconds),
  makeChart($("changes"), { changes: "--accent" }, (value) => `${say.number(value)}/s`),
  makeChart($("bytes"), { bytes: "--accent" }, (value) => `${say.bytes(value)}/s`),
];

function chart(figures) {
  measured.push(figures);
  drawCharts();
}

function drawCharts() {
  while (measured[0]?.time < Date.now() / 1_000 - LONGEST) measured.shift();
  for (const draw of charts) draw();
}

/** A chart of fields of `measured`, each with the name of its colour. Returns what draws it. */
function makeChart(place, fields, words) {
  const sizeOf = () => ({ width: place.clientWidth, height: place.clientHeight });
  const color = (name) => () => getComputedStyle(place).getPropertyValue(name);
  const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  // with its points: one between two intervals without a change would not be seen
  const line = (name) => ({ stroke: color(name), width: 1.5, points: { show: true, size: 3, fill: color(name) } });
  const hours = (_, times) => times.map((time) => say.clock(1_000 * time));
  const now = () => Date.now() / 1_000;
  const shown = () => Math.min(LONGEST, Math.max(60, now() - (measured[0]?.time ?? now())));
  const options = {
    ...sizeOf(),
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false } },
    scales: {
      x: { range: () => [now() - shown(), now()] },
      y: { range: (_, __, most) => [0, most > 0 ? 1.1 * most : 1] },
    },
    axes: [
      { ...axis, size: 24, space: 90, values: hours },
      { ...axis, size: 62, space: 30, values: (_, values) => values.map(words) },
    ],
    series: [{}, ...Object.values(fields).map(line)],
    hooks: { setCursor: [tell] },
  };
  const plot = new uPlot(options, [[], ...Object.keys(fields).map(() => [])], place);
  new ResizeObserver(() => plot.setSize(sizeOf())).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw());

  /** The figures under the pointer, else the latest, in words. */
  function tell({ cursor: { idx } }) {
    const at = measured[idx ?? measured.length - 1];
    if (!at) return;
    for (const field of Object.keys(fields)) setText($(`${field}-now`), at[field] == null ? "–" : words(at[field]));
    put(place.parentElement, { at: idx == null ? "" : `at ${say.clock(1_000 * at.time)}` });
  }

  return () => {
    plot.setData(["time", ...Object.keys(fields)].map((field) => measured.map((each) => each[field] ?? null)));
    tell(plot);
  };
}

// 6. The database.

/** A database has as many tables as it has; a page has not. */
const TABLES = 100;

function showDatabase(database) {
  const { health, unwatched, cost = [], nodes = [] } = database;
  [watched, isRead] = [database.watched, true];
  sayFindings();
  $("unwatched").dataset.empty = "None.";
  setText($("read-at"), `as of ${say.clock(database.read_at)}`);
  const fine = health.filter(({ state }) => state === "ok");
  const showFinding = (item, { finding, state, detail, remedy }) => {
    put(item, { state, finding, detail });
    item.querySelector(".state").dataset.is = state;
    setRemedy(item.querySelector(".remedy"), remedy, finding);
  };
  sync($("findings"), "finding", health.filter((each) => !fine.includes(each)), ({ finding }) => finding, showFinding);
  sync($("fine"), "finding", fine, ({ finding }) => finding, showFinding);
  setText($("fine-size"), fine.length);

  const more = unwatched.length > TABLES ? `; ${TABLES} are shown, rowcast.unwatched has all` : "";
  setText($("unwatched-size"), `${unwatched.length}${more}`);
  sync($("unwatched"), "unwatched-table", unwatched.slice(0, TABLES), ({ table }) => table, (item, row) => {
    const { table, reason, remedy } = row;
    put(item, { table, reason });
    setRemedy(item.querySelector(".remedy"), remedy, table);
  });

  $("cost-part").hidden = cost.length === 0;
  sync($("cost"), "cost-row", cost.slice(0, TABLES), ({ channel }) => channel, (row, { channel, changes, omitted, outbox_bytes, wal_bytes }) => {
    put(row, { channel, omitted: omitted > 0 ? `${say.number(omitted)} by their key alone` : "" });
    put(row, { changes: say.number(changes), outbox: say.bytes(outbox_bytes), log: say.bytes(wal_bytes) });
  });

  $("nodes-part").hidden = nodes.length === 0;
  setText($("nodes-size"), nodes.length);
  sync($("nodes"), "node", nodes, ({ node }) => node, (row, { node, role, version, address, sockets, lag_ms, seen_at }) => {
    const lag = lag_ms > 0 ? say.seconds(lag_ms / 1_000) : "–";
    put(row, { address: address ?? node, version: `${role}, ${version}, ${node}`, sockets: say.number(sockets), lag });
    put(row, { seen: say.clock(seen_at) });
  });
}

/** Where nothing is found, that is so as long as the database can be asked. */
function sayFindings() {
  if (isRead) $("findings").dataset.empty = isCurrent() ? "Nothing to mend." : "Nothing was to mend.";
}

drawCharts();
void repeat(1_000, askStatus);
void repeat(2_000, askMetrics);
void repeat(10_000, askDatabase);
