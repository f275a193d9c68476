// The page of a clinic: two live lists, and the notifications of a user. Copy from it what you need; what is live comes
// from rowcast-client, the rest is plain DOM.
import { connect } from "/rowcast.js";

const $ = (id) => document.getElementById(id);

// 1. Rows. Each of the three is a Map that the server keeps equal to its table, or to a part of it.
const client = connect("/");
const users = client.collection("users", { key: "user_id", columns: ["user_id", "name"] });
const pets = client.collection("pets", { key: "pet_id" });
const reservations = client.collection("reservations", {
  key: "reservation_id",
  filter: "status=in.(requested,confirmed,in_progress)",
});

// 2. What a row looks like: a title, something to its right, and a line below.
function petTexts(pet) {
  const owner = users.get(pet.user_id)?.name ?? "";
  const weight = pet.weight_kg === null ? "" : `${pet.weight_kg} kg`;
  return [pet.name, weight, [pet.breed ?? pet.species, owner, pet.notes].filter(Boolean).join(" · ")];
}

function reservationTexts({ pet_id, user_id, starts_at, status }) {
  const format = { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit" };
  const when = new Date(starts_at).toLocaleString(undefined, format);
  const who = [pets.get(pet_id)?.name, users.get(user_id)?.name].filter(Boolean);
  return [when, status.replace("_", " "), who.join(" · ")];
}

// the pet that was seen last comes first
show(pets, "pets", petTexts, (pet) => -Date.parse(pet.updated_at));
show(reservations, "reservations", reservationTexts, (reservation) => Date.parse(reservation.starts_at));

/** Keeps a list equal to a collection. An item moves only when its own row has changed. */
function show(rows, id, textsOf, placeOf) {
  const list = $(id);
  const items = new Map();
  let isFirst = true;

  rows.on("change", ({ set, removed }) => {
    for (const key of removed.keys()) {
      items.get(key)?.remove();
      items.delete(key);
    }
    for (const key of set.keys()) {
      if (!items.has(key)) items.set(key, makeItem());
      items.get(key).remove(); // it is put in its place below
      items.get(key).classList.toggle("changed", !isFirst);
    }
    isFirst = false;
    let place = list.firstElementChild;
    for (const [key] of [...rows].sort(([, one], [, other]) => placeOf(one) - placeOf(other))) {
      if (items.get(key) === place) place = place.nextElementSibling;
      else list.insertBefore(items.get(key), place);
    }
    $(`${id}-size`).textContent = rows.size;
    fill();
  });
  // rows name others: a pet its owner
  for (const other of [users, pets]) if (other !== rows) other.on("change", fill);

  function fill() {
    for (const [key, item] of items) setTexts(item, textsOf(rows.get(key)));
  }
}

function makeItem() {
  const item = document.createElement("li");
  item.append(...["strong", "span", "small"].map((name) => document.createElement(name)));
  return item;
}

function setTexts(item, texts) {
  texts.forEach((text, i) => {
    if (item.children[i].textContent !== text) item.children[i].textContent = text;
  });
}

// 3. The bell. A user's notifications are a subscription, which ends when another user is picked.
let notifications;
let unread = 0;

users.on("change", () => {
  const picked = $("user").value;
  const inOrder = [...users.values()].sort((one, other) => one.name.localeCompare(other.name));
  $("user").replaceChildren(...inOrder.map(({ name, user_id }) => new Option(name, user_id)));
  if (users.has(Number(picked))) $("user").value = picked;
  else pick();
});
$("user").addEventListener("change", pick);
$("notifications").addEventListener("toggle", () => setUnread(0));

function pick() {
  notifications?.close();
  $("told").replaceChildren();
  setUnread(0);
  if ($("user").value) notifications = client.notifications($("user").value, {}, { change: tell, error: fail });
}

function tell({ notification_type, data, timestamp }) {
  const what = notification_type.replaceAll("_", " ");
  const { pet_name, name, diagnosis, amount, total, status } = data ?? {};
  const which = String(pet_name ?? name ?? diagnosis ?? amount ?? total ?? status ?? "");
  const item = makeItem();
  setTexts(item, [what, new Date(timestamp).toLocaleTimeString(undefined, { timeStyle: "short" }), which]);
  $("told").prepend(item);
  if ($("told").children.length > 50) $("told").lastElementChild.remove();
  $("spoken").textContent = `${what} ${which}`;
  if (!$("notifications").matches(":popover-open")) setUnread(unread + 1);
}

function setUnread(count) {
  unread = count;
  $("unread").textContent = count || "";
  $("bell").setAttribute("aria-label", count ? `Notifications, ${count} unread` : "Notifications");
}

// 4. How things stand. What passes within half a second is not worth a word.
const STATES = { live: "live", source_down: "the source is down", connecting: "reconnecting" };
let pause;

const ignore = client.on("state", (state) => {
  clearTimeout(pause);
  pause = setTimeout(() => say(state, STATES[state]), state === "live" ? 0 : 500);
});
for (const rows of [users, pets, reservations]) rows.on("error", fail);

function fail({ final, message }) {
  if (!final) return; // the state says it
  ignore();
  clearTimeout(pause);
  say("ended", message);
}

function say(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}
