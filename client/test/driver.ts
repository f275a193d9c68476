/** The client as a program that tests/conformance can test: see the README there for the lines that it reads and prints. */
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { connect, type Client, type Collection, type RowcastError, type Subscription } from "../src/index.js";

const url = process.argv[2]!;
const collections = new Map<string, Collection>();
const subscriptions = new Map<string, Subscription>();
let client: Client;

function say(kind: string, fields: object): void {
  process.stdout.write(JSON.stringify({ is: kind, ...fields }) + "\n");
}

const wrong = (name: string) => ({ code, final, message }: RowcastError) => say("error", { name, code, final, message });

function handlers(name: string) {
  return {
    change: (change: object) => say("change", { name, change }),
    snapshot: (rows: object[]) => say("snapshot", { name, rows }),
    ready: () => say("ready", { name }),
    resync: (reason: string) => say("resync", { name, reason }),
    error: wrong(name),
  };
}

function collect(name: string, collection: Collection): void {
  collections.set(name, collection);
  collection.on("change", ({ set, removed }) => {
    const rows = Object.fromEntries([...collections].map(([each, rows]) => [each, [...rows.values()]]));
    say("rows", { name, set: [...set.values()], removed: [...removed.values()], rows });
  });
  collection.on("error", wrong(name));
  collection.ready.then(() => say("ready", { name }), () => {}); // the event has told
}

function obey({ do: what, name, channel, ...wishes }: any): void {
  switch (what) {
    case "connect": {
      const { token, tokens } = wishes;
      const next = async () => (tokens.length > 1 ? tokens.shift() : tokens[0]);
      client = connect(url, { WebSocket, token: tokens ? next : token });
      if (wishes.states) client.on("state", (state) => say("state", { state }));
      break;
    }
    case "subscribe":
      subscriptions.set(name, client.subscribe(channel, wishes, handlers(name)));
      break;
    case "notifications": {
      const { user, ...options } = wishes;
      subscriptions.set(name, client.notifications(user, options, handlers(name)));
      break;
    }
    case "collection":
      collect(name, client.collection(channel, wishes));
      break;
    case "rows":
      say("answer", { name, rows: [...collections.get(name)!.values()] });
      break;
    case "cursor":
      say("answer", { name, cursor: subscriptions.get(name)!.cursor });
      break;
    case "close":
      (name ? (subscriptions.get(name) ?? collections.get(name)!) : client).close();
      break;
    default:
      say("unsupported", { what });
  }
}

createInterface(process.stdin)
  .on("line", (line) => obey(JSON.parse(line)))
  .on("close", () => client?.close());
