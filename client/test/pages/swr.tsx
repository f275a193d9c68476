/** What SWR has fetched, and fetches again when pets change. */
import { createRoot } from "react-dom/client";
import useSWR, { mutate } from "swr";
import { connect } from "../../src/index.js";
import { invalidate } from "../../src/query.js";
import type { Pet } from "./pet.js";

let fetches = 0;
const client = connect<{ pets: Pet }>("/");
invalidate(client, { pets: "/pets" }, (key) => mutate(key));

function Count() {
  return <b>{useSWR("/pets", () => ++fetches, { dedupingInterval: 0 }).data}</b>;
}
createRoot(document.body.appendChild(document.createElement("main"))).render(<Count />);
