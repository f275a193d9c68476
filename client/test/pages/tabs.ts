/**
 * A page that shares its socket with other tabs, and shows the pets of one user. After the `#`: `user`; `token` is the path
 * that gives one, `text` the only one that there is; `window` also shows the first pets by name; `since` is a place among the user's
 * notifications; `storage` keeps the places.
 */
import { connect } from "../../src/index.js";
import { SharedSocket, tabStorage } from "../../src/tabs.js";
import { textOf, type Pet } from "./pet.js";

const asked = new URLSearchParams(location.hash.slice(1));
const user = asked.get("user")!;
const path = asked.get("token");
const since = asked.get("since") ?? "";
const storage = asked.has("storage") ? tabStorage(user) : undefined;
const token = asked.get("text") ?? (path ? async () => (await fetch(path)).text() : "");
const client = connect<{ pets: Pet }>("/", { WebSocket: SharedSocket, token, storage });

const seen = {
  /** ids of changes */
  changes: [] as number[],
  /** what the user was told */
  told: [] as string[],
  errors: [] as string[],
};
Object.assign(globalThis, { seen, client, connect, SharedSocket });

const list = document.body.appendChild(document.createElement("pre"));
const pets = client.collection("pets", { key: "pet_id", filter: `user_id=eq.${Number(user)}` });
pets.on("change", () => (list.textContent = textOf(pets.values())));
const error = ({ code }: { code: string }) => seen.errors.push(code);
const resync = (reason: string) => seen.errors.push(reason);
const all = client.subscribe("pets", {}, { change: ({ id }) => seen.changes.push(id), resync, error });
const bell = client.notifications<Pet>(user, { since }, { change: ({ data }) => seen.told.push(data.name!), resync, error });
Object.assign(globalThis, { bell });
if (asked.has("window")) {
  const newest = client.window("pets", { key: "pet_id", filter: `user_id=eq.${Number(user)}`, order: "name.desc", limit: 2 });
  newest.on("error", error);
  Object.assign(globalThis, { newest });
}
void Promise.all([pets.ready, all.ready, bell.ready]).then(() => (document.body.dataset.ready = ""));
