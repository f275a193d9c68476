/** A program that takes one change and ends. Whether its process does, real.test.ts looks at. */
import { WebSocket } from "ws";
import { connect } from "../src/index.js";

const client = connect(process.argv[2]!, { WebSocket });
const collection = client.collection("pets", { key: "pet_id" });
const notifications = client.notifications(1);
await Promise.all([collection.ready, notifications.ready]);
for await (const change of client.subscribe("pets", { since: process.argv[3]! })) {
  console.log(change.data.name);
  break;
}
client.close();
