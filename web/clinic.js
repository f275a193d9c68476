// The page of a clinic: three live lists, and the inbox of a user behind a bell. Copy from it what you need; what is live
// comes from rowcast-client, the rest is plain DOM.
import { connect } from "/rowcast.js";

const $ = (id) => document.getElementById(id);

// 1. Rows. The names of pets and their owners stand in any row, so all of them are here: each of these is a Map that the
// server keeps equal to its table.
const client = connect("/");
const users = client.collection("users", { key: "user_id", columns: ["user_id", "name"] });
const pets = client.collection("pets", { key: "pet_id", columns: ["pet_id", "user_id", "name"] });

// What is listed may be long: of a hundred thousand reservations the page has those that it shows, in their order, and a few
// behind them. The day is that on which the page was opened.
const KEYS = { pets: "pet_id", reservations: "reservation_id", inbox: "inbox_id" };
const today = new Date(new Date().setHours(0, 0, 0, 0)).toISOString();
const lists = {
  pets: windowOf("pets", { order: "updated_at.desc" }), // the pet that was seen last comes first
  reservations: windowOf("reservations", {
    order: "starts_at",
    filter: ["status=in.(requested,confirmed,in_progress)", `starts_at=gte.${today}`],
  }),
  past: windowOf("reservations", { order: "starts_at.desc", filter: `starts_at=lt.${today}` }),
};

function windowOf(channel, options) {
  return client.window(channel, { key: KEYS[channel], limit: 20, count: true, ...options });
}

// 2. What a row looks like: a title, something to its right, and a line below.
const SOON = { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit" };
const LONG_AGO = { day: "numeric", month: "short", year: "numeric", hour: "numeric", minute: "2-digit" };

function petTexts(pet) {
  const owner = users.get(pet.user_id)?.name ?? "";
  const weight = pet.weight_kg === null ? "" : `${pet.weight_kg} kg`;
  return [pet.name, weight, [pet.breed ?? pet.species, owner, pet.notes].filter(Boolean).join(" · ")];
}

function visitTexts({ pet_id, user_id, starts_at, status }, format) {
  const when = new Date(starts_at).toLocaleString(undefined, format);
  const who = [pets.get(pet_id)?.name, users.get(user_id)?.name].filter(Boolean);
  return [when, status.replace("_", " "), who.join(" · ")];
}

function inboxTexts({ title, details, told_at }) {
  return [title, new Date(told_at).toLocaleTimeString(undefined, { timeStyle: "short" }), details];
}

show(lists.pets, "pets", "pets", petTexts);
show(lists.reservations, "reservations", "reservations", (visit) => visitTexts(visit, SOON));
show(lists.past, "past", "reservations", (visit) => visitTexts(visit, LONG_AGO));
for (const id of Object.keys(lists)) extend(lists[id], id);

/** Keeps a list equal to a window. An item moves only when its own row has changed, and glows then for a moment. */
function show(rows, id, channel, textsOf) {
  const list = $(id);
  const items = new Map();
  /** the rows of these: the window may be ahead, while it is others that tell of a change */
  let shown = [];
  let isReady = false;
  rows.ready.then(() => (isReady = true), () => {}); // where it fails, the error says so

  rows.on("change", ({ set, removed }) => {
    for (const key of removed.keys()) {
      items.get(key).remove();
      items.delete(key);
    }
    for (const key of set.keys()) {
      // a row may also come since another one has gone, or since more are shown
      const hasChanged = items.has(key) || isWritten(channel, key);
      if (!items.has(key)) items.set(key, makeItem());
      const item = items.get(key);
      item.remove(); // it is put in its place below
      item.classList.toggle("changed", isReady && hasChanged);
      for (const part of item.children) part.classList.remove("other");
    }
    shown = rows.rows;
    let place = list.firstElementChild;
    for (const row of shown) {
      const item = items.get(row[KEYS[channel]]);
      if (item === place) place = place.nextElementSibling;
      else list.insertBefore(item, place);
    }
    fill();
  });
  // rows name others: a pet its owner
  for (const other of [users, pets]) other.on("change", fill);

  function fill() {
    for (const row of shown) setTexts(items.get(row[KEYS[channel]]), textsOf(row), row.status);
  }
}

/** Says how many rows there are, and shows more of them: at the end of the list, or by its button. */
function extend(rows, id) {
  const [list, more] = [$(id), $(`${id}-more`)];
  const load = () => rows.loadMore().catch(() => {}); // where it fails, the error says so

  rows.on("change", () => {
    $(`${id}-size`).textContent = `${rows.isExact ? "" : "about "}${rows.count.toLocaleString()}`;
    // a button that goes takes the focus with it
    if (!rows.hasMore && document.activeElement === more) list.focus();
    more.hidden = !rows.hasMore;
  });
  list.addEventListener("scroll", () => {
    if (list.scrollTop + list.clientHeight > list.scrollHeight - 200 && rows.hasMore) load();
  });
  more.addEventListener("click", async () => {
    await load();
    $("spoken").textContent = `${rows.rows.length} are shown`;
  });
}

function makeItem() {
  const item = document.createElement("li");
  item.append(...["strong", "span", "small"].map((name) => document.createElement(name)));
  return item;
}

function setTexts(item, texts, status) {
  texts.forEach((text, i) => {
    const part = item.children[i];
    if (part.textContent === text) return;
    part.classList.toggle("other", part.textContent !== "");
    part.textContent = text;
  });
  // its colour and its shape
  if (status) item.children[1].dataset.is = status;
}

// 3. Who wrote, and what. Any writer counts: the application, this page, psql. A change is told before a list shows it.
const written = new Map();
for (const channel of ["pets", "reservations"]) client.subscribe(channel, {}, { change: sayLast });

function sayLast({ entity_type, action, actor = "somebody", timestamp, data }) {
  heard = Date.now();
  if (data) written.set(`${entity_type} ${data[KEYS[entity_type]]}`, heard);
  $("last").textContent = `Last write: ${entity_type}, ${action} by ${actor} at ${clock(timestamp)}`;
}

/** Within the three seconds that an item glows. Of an inbox all that comes is new. */
function isWritten(channel, key) {
  for (const [name, at] of written) if (Date.now() - at > 3_000) written.delete(name);
  return channel === "inbox" || written.has(`${channel} ${key}`);
}

function clock(time) {
  return new Date(time).toLocaleTimeString(undefined, { hourCycle: "h23" });
}

// 4. The bell. It shows what is unread in the user's inbox, a table like any other: the same after a reload, and on every
// device. It rings when somebody writes a row, and is silent when the application has set `read_at`.
let inbox;

users.on("change", () => {
  const picked = $("user").value;
  const inOrder = [...users.values()].sort((one, other) => one.name.localeCompare(other.name));
  $("user").replaceChildren(...inOrder.map(({ name, user_id }) => new Option(name, user_id)));
  const wanted = picked || sessionStorage.getItem("user");
  if (users.has(Number(wanted))) $("user").value = wanted;
  if ($("user").value !== picked) pick();
});
$("user").addEventListener("change", pick);

function pick() {
  const user = $("user").value;
  sessionStorage.setItem("user", user);
  inbox?.close();
  $("told").replaceChildren();
  sayUnread(0);
  if (!user) return;
  inbox = windowOf("inbox", { order: "inbox_id.desc", limit: 100, filter: [`user_id=eq.${user}`, "read_at=is.null"] });
  show(inbox, "told", "inbox", inboxTexts);
  inbox.on("change", ({ set }) => {
    sayUnread(inbox.count);
    const [newest] = set.values();
    if (newest && $("told").querySelector(".changed")) $("spoken").textContent = `${newest.title} ${newest.details}`;
  });
  inbox.on("error", fail);
  sayPsql();
}

function sayUnread(count) {
  $("unread").textContent = count || "";
  $("bell").setAttribute("aria-label", count ? `Notifications, ${count} unread` : "Notifications");
}

// 5. Writing. rowcast writes nothing for a page: the clinic's application does, which the demo has and your page has in
// another form.
let psql;

pets.on("change", sayPsql);
fetch("/clinic/psql").then(async (answer) => {
  if (!answer.ok) return;
  psql = await answer.text();
  $("write").hidden = $("read").hidden = false;
  sayPsql();
});

$("weigh").addEventListener("click", () => ask("weigh"));
$("read").addEventListener("click", () => ask("read"));

async function ask(errand) {
  const done = await fetch(`/clinic/${errand}/${$("user").value}`, { method: "POST" }).catch(() => undefined);
  if (!done?.ok) $("last").textContent = "The clinic's application has not written this.";
}

/** A line for a shell, or where the database's address is not told, for psql: a pet of the user is written to. */
function sayPsql() {
  const own = [...pets.values()].filter(({ user_id }) => user_id === Number($("user").value));
  const pet = Math.min(...own.map(({ pet_id }) => pet_id));
  const sql = `update pets set notes = 'psql at ' || localtime(0) where pet_id = ${own.length ? pet : 1}`;
  $("how").textContent = psql ? "or write from a shell:" : "or in psql:";
  const line = psql ? `${psql} -c "${sql}"` : `${sql};`;
  if ($("psql").textContent !== line) $("psql").textContent = line; // it may be selected
}

$("copy").addEventListener("click", async () => {
  getSelection().selectAllChildren($("psql"));
  // a page without TLS, away from localhost, has no clipboard: what is selected can still be copied
  const isCopied = await navigator.clipboard?.writeText($("psql").textContent).then(() => true, () => false);
  $("copy").textContent = isCopied ? "Copied" : "Selected";
  setTimeout(() => ($("copy").textContent = "Copy"), 2_000);
});

// 6. How things stand. What passes within half a second is not worth a word; what lasts makes the rows look old.
const STATES = {
  live: ["live"],
  source_down: ["the source is down", "the server is without its database. Changes follow, none is lost."],
  connecting: ["reconnecting", "the server does not answer. Changes follow, none is lost."],
};
let state = "connecting";
/** why it has ended */
let ending;
let isSilent = false;
/** when the server last was there; until when the rows were current */
let heard = Date.now();
let current;
let pause;

client.on("state", judge);
for (const rows of [users, pets, ...Object.values(lists)]) rows.on("error", fail);

// A server that stands still, or is cut off, keeps its sockets open and is silent on them: it is asked each second.
setInterval(async () => {
  const asked = Date.now();
  const answer = fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(2_000) });
  const isThere = await answer.then(({ ok }) => ok, () => false);
  if (isThere) heard = Math.max(heard, asked);
  const wasSilent = isSilent;
  isSilent = Date.now() - heard > 2_000;
  // its socket is no longer trusted; or it is back, and need not wait for the next attempt
  if (isSilent !== wasSilent) client.wake();
  judge();
}, 1_000);

function fail({ final, message }) {
  if (final) ending ??= message; // what is not final the state says
  judge();
}

function judge() {
  const now = ending ? "ended" : isSilent ? "connecting" : client.state;
  if (now === state) return;
  if (state === "live") current = isSilent ? heard : Date.now();
  state = now;
  clearTimeout(pause);
  pause = setTimeout(say, now === "live" || isSilent ? 0 : 500);
}

function say() {
  const [short, long] = STATES[state] ?? ["ended", ending];
  $("state").dataset.state = state;
  $("state").textContent = short;
  const isStale = state !== "live" && current !== undefined;
  document.body.toggleAttribute("data-stale", isStale);
  $("stale").hidden = !isStale;
  if (isStale) $("stale").textContent = `Not current since ${clock(current)}: ${long}`;
}
