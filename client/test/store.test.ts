import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client } from "../src/index.js";
import { collectionStore, type View } from "../src/store.js";
import { Queue } from "./queue.js";
import { golden, Scripted, snapshot, subscribed, update } from "./scripted.js";

interface Pet {
  pet_id: number;
  name: string;
}

let server: Scripted;
let client: Client<{ pets: Pet }>;

beforeEach(async () => {
  server = await Scripted.start();
  client = connect(server.url, { WebSocket });
});

afterEach(async () => {
  client.close();
  await server.stop();
});

/** What a subscriber of a store is shown. */
function watch(store: ReturnType<typeof collectionStore<{ pets: Pet }, "pets">>) {
  const views = new Queue<View<Pet>>();
  return { views, leave: store.subscribe((view) => views.push(view)) };
}

test("a store shows the collection at each moment", async () => {
  const store = collectionStore(client, "pets", { key: "pet_id" });
  expect(store.get()).toEqual({ rows: [], isReady: false });
  const { views } = watch(store);
  expect(await views.next()).toEqual({ rows: [], isReady: false });
  const socket = await server.socket();
  socket.send(snapshot([{ pet_id: 1, name: "Rex" }]), snapshot([], "1A"));
  const shown = await views.next();
  expect(shown).toEqual({ rows: [{ pet_id: 1, name: "Rex" }], isReady: false });
  socket.send(subscribed("1A"));
  const ready = await views.next();
  expect(ready.isReady).toBe(true);
  expect(ready.rows).toBe(shown.rows);
  socket.send(update(2, "1B"));
  const updated = await views.next();
  expect(updated.rows.map(({ name }) => name)).toEqual(["Rex", "Luna"]);
  expect(store.get()).toBe(updated);
  socket.send({ ...golden.error, ref: "pets" });
  expect((await views.next()).error).toMatchObject({ code: "unknown_channel" });
});

test("those who ask for the same share a collection, which the last one closes", async () => {
  const options = { key: "pet_id" } as const;
  const store = collectionStore(client, "pets", { ...options });
  expect(collectionStore(client, "pets", { ...options })).toBe(store);
  expect(collectionStore(client, "pets", { ...options, filter: "pet_id=eq.1" })).not.toBe(store);
  expect(collectionStore(client, "pets", { key: (pet) => pet.pet_id })).not.toBe(store);

  const [first, second] = [watch(store), watch(store)];
  const socket = await server.socket();
  socket.send(snapshot([{ pet_id: 1 }]), snapshot([], "1A"));
  for (const { views } of [first, second]) while ((await views.next()).rows.length === 0);
  first.leave();
  first.leave();
  expect(store.get().rows).toHaveLength(1);
  second.leave();
  expect(store.get()).toEqual({ rows: [], isReady: false });
  await socket.closed;
  expect(server.count).toBe(1);
});

test("one that is left and taken up again in one turn keeps its socket", async () => {
  const store = collectionStore(client, "pets", { key: "pet_id" });
  const first = watch(store);
  const socket = await server.socket();
  await socket.command();
  first.leave();
  const { views } = watch(store);
  expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
  socket.send(golden.unsubscribed);
  expect(await socket.command()).toMatchObject({ type: "subscribe" });
  socket.send(snapshot([], "1A"), subscribed("1A"));
  while (!(await views.next()).isReady);
  expect(server.count).toBe(1);
});
