import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client, type ConnectOptions, type Handlers } from "../src/index.js";
import { Subscription } from "../src/subscription.js";
import { Queue } from "./queue.js";
import { gap, golden, Scripted, snapshot, subscribed, update } from "./scripted.js";

let server: Scripted;
let client: Client;

beforeEach(async () => {
  vi.spyOn(Math, "random").mockReturnValue(0); // no pause before an attempt
  server = await Scripted.start();
});

afterEach(async () => {
  client?.close();
  await server.stop();
});

function open(options: ConnectOptions = {}): Client {
  return (client = connect(server.url, { WebSocket, ...options }));
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 20));

/** Handlers that write down what they are told. */
function told(): Handlers<any, any> & Queue<unknown> {
  const queue = new Queue<unknown>();
  return Object.assign(queue, {
    change: ({ id }: any) => queue.push(id),
    snapshot: (rows: any[]) => queue.push(rows.map((row) => row.pet_id)),
    ready: ({ recovered }: any) => queue.push(recovered ? "recovered" : "ready"),
    resync: (reason: string) => queue.push(reason),
    error: ({ code }: any) => queue.push(code),
  });
}

async function expectNext(queue: Queue<unknown>, ...expected: unknown[]): Promise<void> {
  for (const each of expected) expect(await queue.next()).toEqual(each);
}

test("a gap in answer to a place is told when the subscription is live", async () => {
  const log = told();
  open().subscribe("pets", { since: "1A" }, log);
  const socket = await server.socket();
  expect(await socket.command()).toMatchObject({ since: "1A" });
  // a gap may follow a part of what was missed
  socket.send(update(1, "1B"), gap("retention"), subscribed("1C"), update(2, "1D"));
  await expectNext(log, 1, "retention", "ready", 2);
});

test("a socket that is lost after a gap tells it once", async () => {
  const log = told();
  open().subscribe("pets", { since: "1A" }, log);
  const first = await server.socket();
  first.send(gap("failover"));
  first.close(1001);
  const second = await server.socket();
  expect(await second.command()).toMatchObject({ since: "1A" });
  second.send(gap("failover"), subscribed("1C"));
  await expectNext(log, "failover", "ready");
  second.cut();
  expect(await (await server.socket()).command()).toMatchObject({ since: "1C" });
});

test("a gap in the stream is told at once where there is no snapshot", async () => {
  const log = told();
  open().subscribe("pets", {}, log);
  const socket = await server.socket();
  socket.send(subscribed("1A"), gap("trigger_off"), update(1, "1B"));
  await expectNext(log, "ready", "trigger_off", 1);
});

test("a gap in the stream begins a new snapshot", async () => {
  const log = told();
  open().subscribe("pets", { snapshot: true }, log);
  const socket = await server.socket();
  expect(await socket.command()).toEqual({ type: "subscribe", channel: "pets", snapshot: true, partial: true, ref: "pets" });
  socket.send(snapshot([{ pet_id: 1 }]), snapshot([{ pet_id: 2 }]), snapshot([], "1A"));
  socket.send(update(3, "1B"), subscribed("1B"));
  await expectNext(log, [1, 2], 3, "ready");
  socket.send(gap("failover"), update(3, "1B"), gap("failover"));
  expect(await socket.command()).toEqual({ type: "unsubscribe", channel: "pets", view: "", ref: "pets" });
  socket.send(golden.unsubscribed);
  expect(await socket.command()).toEqual({ type: "subscribe", channel: "pets", snapshot: true, partial: true, ref: "pets" });
  socket.send(snapshot([{ pet_id: 4 }]), snapshot([], "1D"), subscribed("1D"), update(5, "1E"));
  await expectNext(log, "failover", [4], "ready", 5);
});

test("a policy that changed is a gap, after which the server joins the channel anew by itself", async () => {
  const [changes, rows] = [told(), told()];
  open().subscribe("pets", {}, changes);
  client.subscribe("users", { snapshot: true }, rows);
  const socket = await server.socket();
  for (let i = 0; i < 2; i++) await socket.command();
  const users = { channel: "users" };
  socket.send(subscribed("1A"), gap("policy"), subscribed("1B"), update(1, "1C"));
  await expectNext(changes, "ready", "policy", "ready", 1);
  socket.send(subscribed("1A", users), { ...gap("policy"), ...users }, subscribed("1B", users));
  expect(await socket.command()).toMatchObject({ type: "unsubscribe", ...users });
  socket.send({ ...golden.unsubscribed, ...users });
  expect(await socket.command()).toEqual({ type: "subscribe", ...users, snapshot: true, partial: true, ref: "users" });
  socket.send({ ...snapshot([{ pet_id: 4 }], "1D"), ...users }, subscribed("1D", users));
  await expectNext(rows, "ready", "policy", [4], "ready");
});

test("a gap in answer to a place is followed by the snapshot, on this socket or the next", async () => {
  const log = told();
  const subscription = open().subscribe("pets", { snapshot: true, since: "1A" }, log);
  const first = await server.socket();
  expect(await first.command()).toMatchObject({ since: "1A", snapshot: true });
  first.send(gap("bad_cursor"), snapshot([{ pet_id: 1 }]));
  await expectNext(log, "bad_cursor");
  first.cut();
  const second = await server.socket();
  expect(await second.command()).toEqual({ type: "subscribe", channel: "pets", snapshot: true, partial: true, ref: "pets" });
  second.send(snapshot([{ pet_id: 2 }]), snapshot([], "1B"), subscribed("1B"));
  await expectNext(log, [2], "ready");
  expect(subscription.cursor).toBe("1B");
});

test("a snapshot that is broken off goes on behind its last cursor", async () => {
  const sets: any[][] = [];
  open().subscribe("pets", { snapshot: true }, { snapshot: (rows) => sets.push(rows.map(({ pet_id }: any) => pet_id)) });
  const first = await server.socket();
  expect(await first.command()).toMatchObject({ snapshot: true, partial: true });
  const part = (ids: number[], cursor?: string) => ({ ...snapshot(ids.map((pet_id) => ({ pet_id }))), cursor });
  first.send(part([1, 2]), part([3], "1A~~W10"), part([4]));
  first.close(1001);
  const next = await server.socket();
  expect(await next.command()).toMatchObject({ since: "1A~~W10", snapshot: true, partial: true });
  next.send(part([4, 5], "1A~~W11"));
  next.close(1001);
  const last = await server.socket();
  expect(await last.command()).toMatchObject({ since: "1A~~W11", partial: true });
  last.send(part([6]), snapshot([], "1B"), update(7, "1C"), subscribed("1C", { recovered: true }));
  await expect.poll(() => sets).toEqual([[1, 2, 3, 4, 5, 6]]);
  // where the place is not honoured all rows come again
  last.send(gap("retention"));
  expect(await last.command()).toMatchObject({ type: "unsubscribe" });
  last.send({ type: "unsubscribed", channel: "pets" });
  const again = await last.command();
  expect([again.since, again.partial]).toEqual([undefined, true]);
  last.send(part([1], "1D~~W10"), gap("policy"), part([8]), snapshot([], "1E"), subscribed("1E"));
  await expect.poll(() => sets.at(-1)).toEqual([8]);
});

test("a snapshot that is broken off comes whole from the next socket", async () => {
  const log = told();
  open().subscribe("pets", { snapshot: true }, log);
  const first = await server.socket();
  first.send(snapshot([{ pet_id: 1 }]));
  first.close(4408);
  const second = await server.socket();
  expect(await second.command()).toEqual({ type: "subscribe", channel: "pets", snapshot: true, partial: true, ref: "pets" });
  second.send(snapshot([{ pet_id: 1 }]), snapshot([], "1A"), update(2, "1B"));
  second.close(1001);
  await expectNext(log, [1], 2);
  // from here on nothing has to be read anew
  const third = await server.socket();
  expect(await third.command()).toMatchObject({ since: "1B" });
  third.send(subscribed("1B", { recovered: true }));
  await expectNext(log, "recovered");
});

test("a handler that throws has had its change; the next ones come", async () => {
  const thrown = new Queue<() => void>();
  vi.stubGlobal("queueMicrotask", (task: () => void) => thrown.push(task));
  const log = told();
  const change = ({ id }: { id: number }) => {
    log.push(id);
    throw new Error("the application's own");
  };
  const subscription = open().subscribe("pets", {}, { ...log, change });
  (await server.socket()).send(update(1, "1A"), update(2, "1B"), subscribed("1B"));
  await expectNext(log, 1, 2, "ready");
  expect(subscription.cursor).toBe("1B");
  for (let i = 0; i < 2; i++) expect(await thrown.next()).toThrow("own");
});

test("an iterator gives the changes one by one, and leaving its loop closes", async () => {
  const subscription = open().subscribe("pets");
  const socket = await server.socket();
  await socket.command();
  socket.send(update(1, "1A"), update(2, "1B"), subscribed("1B"), update(3, "1C"));
  const ids = [];
  for await (const { id } of subscription) {
    ids.push(id);
    if (id === 3) break;
  }
  expect(ids).toEqual([1, 2, 3]);
  await socket.closed;
});

test("an iterator that is too far behind gets what waits, and then the error", async () => {
  const log = told();
  const subscription = open().subscribe("pets", { backlog: 2 }, { error: log.error! });
  const socket = await server.socket();
  socket.send(subscribed("1A"), update(1, "1B"), update(2, "1C"), update(3, "1D"));
  await expectNext(log, "behind");
  const ids: number[] = [];
  const read = async () => {
    for await (const { id } of subscription) ids.push(id);
  };
  await expect(read()).rejects.toMatchObject({ code: "behind", final: true });
  expect(ids).toEqual([1, 2]);
  // from here another one goes on: nothing comes twice, and nothing is left out
  expect(subscription.cursor).toBe("1C");
  await socket.closed;
});

test("close ends an iterator", async () => {
  const subscription = open().subscribe("pets");
  const next = subscription[Symbol.asyncIterator]().next();
  subscription.close();
  expect(await next).toEqual({ done: true, value: undefined });
  await expect(subscription.ready).rejects.toMatchObject({ code: "closed" });
});

test("a signal ends it, before and after it began", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const log = told();
  const subscription = open().subscribe("pets", { signal }, log);
  const socket = await server.socket();
  controller.abort(new Error("enough"));
  await socket.closed;
  await expect(subscription.ready).rejects.toThrow("enough");
  await expect(client.subscribe("pets", { signal }, log).ready).rejects.toThrow("enough");
  expect(server.count).toBe(1);
  expect(log.rest).toEqual([]);
});

test("a collection ends with its signal too", async () => {
  const controller = new AbortController();
  const collection = open().collection("pets", { key: "pet_id", signal: controller.signal });
  await (await server.socket()).command();
  controller.abort();
  await expect(collection.ready).rejects.toThrow("abort");
});

/** As much of `Storage` as is needed. */
class Stored extends Map<string, string> {
  getItem = (key: string) => this.get(key) ?? null;
  setItem = (key: string, value: string) => void this.set(key, value);
  removeItem = (key: string) => void this.delete(key);
}

/** A subscription without a connection. */
function alone(handlers: Handlers<any, any> = {}): Subscription {
  const subscription = new Subscription("pets", { snapshot: true }, handlers);
  subscription.connection = { ask() {}, rejoin() {}, remove() {} };
  return subscription;
}

test("what a stream still says behind a gap is no place to go on from", () => {
  const subscription = alone();
  subscription.begin();
  for (const message of [snapshot([], "1A"), subscribed("1A"), gap("unreadable"), update(1, "1C")]) {
    subscription.receive(message as any);
  }
  expect((subscription.begin() as any).since).toBeUndefined();
});

test("rows that are asked for anew, over a connection that stands, are not broken off", () => {
  const codes: string[] = [];
  const subscription = alone({ error: ({ code, final }) => codes.push(`${code} ${final}`) });
  const begin = () => {
    subscription.begin();
    subscription.receive(snapshot([{ pet_id: 1 }]) as any);
  };
  for (let i = 0; i < 12; i++) begin();
  expect(codes).toEqual([]);
  for (let i = 0; i < 10; i++) {
    // attempts that reach no server are no loss of another part
    subscription.lost();
    subscription.lost();
    begin();
  }
  expect(codes).toEqual([...Array(7).fill("no_end false"), "no_end true"]);
});

test("a stored place outlives the client", async () => {
  const storage = new Stored();
  const log = told();
  open({ storage }).subscribe("pets", {}, log);
  const first = await server.socket();
  first.send(subscribed("1A"), update(1, "1B"));
  await expectNext(log, "ready", 1);
  client.close();
  await first.closed;

  open({ storage }).subscribe("pets", {}, log);
  client.subscribe("pets", { filter: "user_id=eq.1" });
  client.collection("pets", { key: "pet_id" });
  const socket = await server.socket();
  const commands = [await socket.command(), await socket.command(), await socket.command()];
  expect(commands.map(({ since }) => since).sort()).toEqual(["1B", undefined, undefined]);
});

test("a place is stored when its change was dealt with", async () => {
  const storage = new Stored();
  const reader = open({ storage }).subscribe("pets")[Symbol.asyncIterator]();
  const socket = await server.socket();
  const first = reader.next();
  socket.send(update(1, "1A"), subscribed("1A"));
  expect((await first).value).toMatchObject({ id: 1 });
  expect([...storage.values()]).toEqual([]);
  const second = reader.next();
  expect([...storage.values()]).toEqual(["1A"]);
  socket.send({ ...golden.heartbeat, cursor: "1B" }, update(2, "1C"));
  await second;
  expect([...storage.values()]).toEqual(["1B"]);
});

test("two subscriptions of one channel do not move each other's place", async () => {
  const storage = new Stored();
  const log = told();
  open({ storage }).subscribe("pets", {}, { change: () => new Promise(() => {}) });
  client.subscribe("pets", {}, log);
  const socket = await server.socket();
  for (const more of [{}, { view: "1" }]) socket.send(subscribed("1A", more), update(1, "1B", more));
  await expectNext(log, "ready", 1);
  expect([...storage.values()].sort()).toEqual(["1A", "1B"]);
  client.close();
  // each finds its own again
  open({ storage }).subscribe("pets");
  client.subscribe("pets");
  const next = await server.socket();
  expect([(await next.command()).since, (await next.command()).since]).toEqual(["1A", "1B"]);
});

test("who asks for the rows is given them after a reload, whatever is stored", async () => {
  const storage = new Stored();
  const log = told();
  open({ storage }).subscribe("pets", { snapshot: true }, log);
  const socket = await server.socket();
  socket.send(snapshot([], "1A"), subscribed("1A"), update(1, "1B"));
  await expectNext(log, [], "ready", 1);
  expect([...storage.values()]).toEqual([]);
  client.close();
  open({ storage }).subscribe("pets", { snapshot: true });
  const command = await (await server.socket()).command();
  expect(command).toMatchObject({ snapshot: true });
  expect(command.since).toBeUndefined();
});

test("a storage that is full or forbidden is an error, and changes go on", async () => {
  const log = told();
  const refuse = () => {
    throw new Error("QuotaExceededError");
  };
  open({ storage: { getItem: refuse, setItem: refuse, removeItem: refuse } }).subscribe("pets", {}, log);
  const socket = await server.socket();
  socket.send(subscribed("1A"), update(1, "1B"), update(2, "1C"));
  await expectNext(log, "no_storage", "ready", 1, 2);
  expect(client.state).toBe("live");
});

test("a storage that becomes full keeps no place that is behind", async () => {
  const kept = new Map<string, string>();
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, place: string) => {
      if (place === "1BB") throw new Error("QuotaExceededError");
      kept.set(key, place);
    },
    removeItem: (key: string) => void kept.delete(key),
  };
  const log = told();
  open({ storage }).subscribe("pets", {}, log);
  const socket = await server.socket();
  socket.send(subscribed("1A"));
  await expectNext(log, "ready");
  expect([...kept.values()]).toEqual(["1A"]);
  socket.send(update(1, "1BB"));
  await expectNext(log, 1, "no_storage");
  expect(kept.size).toBe(0);
});

test("the cursor waits for a handler's promise, in order", async () => {
  const done: (() => void)[] = [];
  const places: string[] = [];
  const storage = { getItem: () => null, setItem: (_: string, place: string) => void places.push(place), removeItem() {} };
  const subscription = open({ storage }).subscribe("pets", {}, {
    change: ({ id }) => (id === 3 ? undefined : new Promise<void>((resolve) => done.push(resolve))),
  });
  const socket = await server.socket();
  socket.send(subscribed("1A"), update(1, "1B"), update(2, "1C"), update(3, "1D"), { ...golden.heartbeat, cursor: "1E" });
  await vi.waitFor(() => expect(done).toHaveLength(2), 30_000);
  await turn();
  expect(subscription.cursor).toBe("1A");
  done[1]!();
  await turn();
  expect(subscription.cursor).toBe("1A");
  done[0]!();
  await turn();
  expect([subscription.cursor, places]).toEqual(["1E", ["1A", "1B", "1C", "1D", "1E"]]);
});

test("a cursor among the rows is no position up to which anything was dealt with", async () => {
  const log = told();
  const subscription = open().subscribe("pets", { snapshot: true }, log);
  const first = await server.socket();
  await first.command();
  first.send({ ...snapshot([{ pet_id: 1 }]), cursor: "1A~~W10" });
  // over a lost connection it goes on behind those rows
  first.close(1001);
  const second = await server.socket();
  expect(await second.command()).toMatchObject({ since: "1A~~W10", partial: true });
  expect(subscription.cursor).toBeUndefined();
  second.send(snapshot([{ pet_id: 2 }]), snapshot([], "1A"), subscribed("1B"));
  await expectNext(log, [1, 2], "ready");
  expect(subscription.cursor).toBe("1B");
});
