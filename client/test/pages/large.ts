/** A page with a large list. */
import { connect, type RowcastError } from "../../src/index.js";

const large = { seconds: 0, size: 0, errors: [] as string[], sockets: 0 };
Object.assign(globalThis, { large });

class Observed extends WebSocket {
  constructor(url: string, protocols: string[]) {
    super(url, protocols);
    large.sockets++;
  }
}

const orders = connect<{ orders: { order_id: number } }>("/", { WebSocket: Observed }).collection("orders", { key: "order_id" });
orders.on("error", (error: RowcastError) => large.errors.push(String(error)));
void orders.ready.then(() => Object.assign(large, { seconds: performance.now() / 1_000, size: orders.size }));
