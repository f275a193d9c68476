/**
 * A page that joins four collections, and compares them at every event with the sums that the writer has kept. With `#shared`
 * it shares its socket with other tabs.
 */
import { connect } from "../../src/index.js";
import { SharedSocket } from "../../src/tabs.js";

interface Row {
  id: number;
  v: number;
}
interface Total {
  id: number;
  sum_a: number;
  sum_b: number;
  sum_c: number;
  n: number;
}

const seen = { events: 0, torn: [] as string[], n: -1, closes: [] as number[] };
Object.assign(globalThis, { seen });

class Observed extends WebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols);
    this.addEventListener("close", ({ code }) => seen.closes.push(code));
  }
}

// also where it is shared: then the tab that leads opens it
globalThis.WebSocket = Observed;
const options = location.hash ? { WebSocket: SharedSocket } : {};
const client = connect<{ a: Row; b: Row; c: Row; total: Total }>("/", options);
const tables = [
  client.collection("a", { key: "id" }),
  client.collection("b", { key: "id" }),
  client.collection("c", { key: "id" }),
];
const total = client.collection("total", { key: "id" });
const sum = (rows: Iterable<Row>) => [...rows].reduce((all, { v }) => all + v, 0);

for (const each of [...tables, total]) {
  each.on("change", () => {
    const wanted = total.get(1);
    // nothing is shown of a collection before its rows are there
    if (!wanted || seen.n < 0) return;
    seen.events++;
    const sums = tables.map((rows) => sum(rows.values()));
    const { sum_a, sum_b, sum_c, n } = wanted;
    if (sums.join() !== [sum_a, sum_b, sum_c].join()) seen.torn.push(`${n}: ${sums}, and not ${sum_a},${sum_b},${sum_c}`);
    if (n < seen.n) seen.torn.push(`${n} after ${seen.n}`);
  });
}
total.on("change", () => {
  const { n } = total.get(1)!;
  if (seen.n >= 0) seen.n = n;
});
void Promise.all([...tables, total].map(({ ready }) => ready)).then(() => (seen.n = total.get(1)!.n));
