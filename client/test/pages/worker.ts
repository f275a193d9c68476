/** A worker that follows the table, at the address that it is given. */
import { connect } from "../../src/index.js";
import { textOf, type Pet } from "./pet.js";

self.onmessage = ({ data }) => {
  try {
    const pets = connect<{ pets: Pet }>(data).collection("pets", { key: "pet_id" });
    pets.on("change", () => self.postMessage(textOf(pets.values())));
  } catch (error) {
    self.postMessage(String(error));
  }
};
