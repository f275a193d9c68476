/** A page with a live list. Over reloads it remembers which changes its handler was called with. */
import { connect } from "../../src/index.js";
import { textOf, type Pet } from "./pet.js";

const client = connect<{ pets: Pet }>("/", { storage: sessionStorage });

const list = document.body.appendChild(document.createElement("pre"));
const pets = client.collection("pets", { key: "pet_id" });
let events = 0;
pets.on("change", () => {
  list.textContent = textOf(pets.values());
  list.dataset.at = String(Date.now());
  list.dataset.events = String(++events);
});
void pets.ready.then(() => (list.dataset.ready = ""));

const handled: number[] = JSON.parse(sessionStorage.getItem("handled") ?? "[]");
const subscription = client.subscribe(
  "pets",
  {},
  {
    change({ id }) {
      handled.push(id);
      sessionStorage.setItem("handled", JSON.stringify(handled));
    },
    resync(reason) {
      throw new Error(reason);
    },
  },
);
void subscription.ready.then(() => (document.body.dataset.ready = ""));
