/** Waiting until what is shown has come to a cursor. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client, type RowcastError } from "../src/index.js";
import { golden, Scripted, snapshot, subscribed, update, type Peer } from "./scripted.js";

let server: Scripted;
let client: Client;

beforeEach(async () => {
  vi.spyOn(Math, "random").mockReturnValue(0.01);
  server = await Scripted.start();
  client = connect(server.url, { WebSocket });
});

afterEach(async () => {
  client.close();
  await server.stop();
});

async function open() {
  const pets = client.collection("pets", { key: "pet_id" });
  const socket = await server.socket();
  await socket.command();
  socket.send(snapshot([], "1A"), subscribed("1A"), golden.cut);
  await pets.ready;
  return { pets, socket };
}

/** Asks, and returns what the server was sent. */
async function sync(socket: Peer, cursor: string) {
  const done = client.sync(cursor);
  return { done, command: await socket.command() };
}

test("it settles at the cut at which that is shown, and not before", async () => {
  const { pets, socket } = await open();
  const log: string[] = [];
  pets.on("change", () => log.push("change"));
  const { done, command } = await sync(socket, "1C");
  expect(command).toEqual({ type: "sync", cursor: "1C", ref: expect.any(Number) });
  const settled = done.then(() => log.push(`settled with ${pets.size}`));
  socket.send(update(1, "1B"), golden.cut, update(2, "1C", { data: { pet_id: 2 } }), { type: "synced", ref: command.ref });
  await expect.poll(() => log).toEqual(["change"]);
  socket.send(golden.cut);
  await settled;
  expect(log).toEqual(["change", "change", "settled with 2"]);
});

test("a cursor that the server cannot judge is an error, of which nothing else hears", async () => {
  const { pets, socket } = await open();
  const errors: RowcastError[] = [];
  pets.on("error", (error) => errors.push(error));
  const { done, command } = await sync(socket, "nonsense");
  socket.send({ ...golden.error, code: "bad_cursor", ref: command.ref });
  await expect(done).rejects.toMatchObject({ code: "bad_cursor" });
  expect(errors).toEqual([]);
});

test("where what it waits for is closed there is nothing to wait for any more", async () => {
  const { pets, socket } = await open();
  const { done } = await sync(socket, "1C");
  pets.close();
  await done;
});

test("over a lost connection it is asked again, behind what is subscribed", async () => {
  const { socket } = await open();
  const { done, command } = await sync(socket, "1C");
  socket.cut();
  const next = await server.socket();
  expect(await next.command()).toMatchObject({ type: "subscribe" });
  expect(await next.command()).toEqual(command);
  next.send(subscribed("1D", { recovered: true }), golden.cut, { type: "synced", ref: command.ref }, golden.cut);
  await done;
});

test("one that was one too many is sent again", async () => {
  const { socket } = await open();
  const { done, command } = await sync(socket, "1C");
  socket.send({ ...golden.error, code: "too_many_syncs", retry_after: 0.01, ref: command.ref });
  expect(await socket.command()).toEqual(command);
  socket.send({ type: "synced", ref: command.ref }, golden.cut);
  await done;
});

test("where nothing is subscribed there is nothing to wait for, and a client that is closed waits no longer", async () => {
  await client.sync("1C");
  const { socket } = await open();
  const { done } = await sync(socket, "1C");
  client.close();
  await expect(done).rejects.toMatchObject({ code: "closed" });
});
