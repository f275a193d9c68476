/** A page with as many collections as its address says, each with a pet of its own. */
import { connect, type RowcastError } from "../../src/index.js";
import type { Pet } from "./pet.js";

const count = Number(location.hash.slice(1));
const client = connect<{ pets: Pet }>("/");
const many = { ready: 0, errors: [] as string[], name: "", at: 0, events: 0, wrong: 0 };
Object.assign(globalThis, { many });

for (let i = 1; i <= count; i++) {
  const pets = client.collection("pets", { key: "pet_id", filter: `pet_id=eq.${i}` });
  pets.on("error", (error: RowcastError) => many.errors.push(String(error)));
  pets.on("change", () => {
    Object.assign(many, { name: pets.get(i)?.name, at: Date.now(), events: many.events + 1 });
    if (pets.size !== 1 || !pets.has(i)) many.wrong++;
  });
  void pets.ready.then(() => many.ready++);
}
