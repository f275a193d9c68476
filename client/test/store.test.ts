import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Change, type Client, type State } from "../src/index.js";
import {
  collectionStore,
  notificationStore,
  stateStore,
  windowStore,
  type Lifetime,
  type NotificationView,
  type View,
  type WindowView,
} from "../src/store.js";
import { Queue } from "./queue.js";
import { golden, Scripted, snapshot, subscribed, update, type Peer } from "./scripted.js";

interface Pet {
  pet_id: number;
  name: string;
}

let server: Scripted;
let client: Client<{ pets: Pet; dogs: Pet }>;

beforeEach(async () => {
  server = await Scripted.start();
  client = connect(server.url, { WebSocket });
});

afterEach(async () => {
  client.close();
  await server.stop();
});

/** What a subscriber of a store is shown. */
function watch(store: ReturnType<typeof collectionStore<{ pets: Pet; dogs: Pet }, "pets">>) {
  const views = new Queue<View<Pet>>();
  return { views, leave: store.subscribe((view) => views.push(view)) };
}

test("a store shows the collection at each moment", async () => {
  const store = collectionStore(client, "pets", { key: "pet_id" });
  expect(store.get()).toEqual({ rows: [], isReady: false });
  const { views } = watch(store);
  expect(await views.next()).toEqual({ rows: [], isReady: false });
  const socket = await server.socket();
  socket.send(snapshot([{ pet_id: 1, name: "Rex" }]), snapshot([], "1A"), subscribed("1A"), golden.cut);
  const shown = await views.next();
  expect(shown).toEqual({ rows: [{ pet_id: 1, name: "Rex" }], isReady: false });
  const ready = await views.next();
  expect(ready.isReady).toBe(true);
  expect(ready.rows).toBe(shown.rows);
  socket.send(update(2, "1B"), golden.cut);
  const updated = await views.next();
  expect(updated.rows.map(({ name }) => name)).toEqual(["Rex", "Luna"]);
  expect(store.get()).toBe(updated);
  socket.send({ ...golden.error, code: "forbidden", ref: "pets" });
  expect((await views.next()).error).toMatchObject({ code: "forbidden" });
});

test("stores of the same share a collection, which the last one closes", async () => {
  const key = "pet_id";
  const filter = "pet_id=eq.1";
  const first = watch(collectionStore(client, "pets", { key, filter, keepAlive: 0 }));
  const second = watch(collectionStore(client, "pets", { keepAlive: 0, filter, key }));
  const socket = await server.socket();
  const { view, ...asked } = await socket.command();
  expect(asked).toMatchObject({ type: "subscribe", filter });
  const answer = [snapshot([{ pet_id: 1 }]), snapshot([], "1A"), subscribed("1A")];
  socket.send(...answer.map((message) => ({ ...message, view })), golden.cut);
  for (const { views } of [first, second]) while ((await views.next()).rows.length === 0);
  const store = collectionStore(client, "pets", { key, filter, keepAlive: 0 });
  expect(store.get().rows).toHaveLength(1);
  expect(store.getInitial()).toEqual({ rows: [], isReady: false });
  expect(collectionStore(client, "pets", { key, keepAlive: 0 }).get()).toEqual({ rows: [], isReady: false });
  expect(collectionStore(client, "pets", { key: (pet) => pet.pet_id, filter }).get().rows).toEqual([]);
  first.leave();
  first.leave();
  expect(store.get().rows).toHaveLength(1);
  second.leave();
  expect(store.get()).toEqual({ rows: [], isReady: false });
  await socket.closed;
  expect(server.count).toBe(1);
});

describe("a window", () => {
  const order = [{ column: "pet_id", type: "integer", desc: true, nulls: "first" }];
  const page = (pets: object[], more: boolean, rest: object = {}) => ({
    ...{ type: "rows", channel: "pets", rows: pets, last: true, more, order, cursor: "1A" },
    ...rest,
  });
  const pets = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, i) => ({ pet_id: from - i, name: "Rex" }));
  const options = { key: "pet_id", order: "pet_id.desc", limit: 2 } as const;

  async function open() {
    const store = windowStore(client, "pets", options);
    const views = new Queue<WindowView<Pet>>();
    const leave = store.subscribe((view) => views.push(view));
    const socket = await server.socket();
    expect(await socket.command()).toMatchObject({ rows: { order: "pet_id.desc", limit: 12 } });
    socket.send(page(pets(50, 39), true, { count: 40, exact: false }), subscribed("1A"), golden.cut);
    while (!(await views.next()).isReady);
    return { store, views, leave, socket };
  }

  test("is shown at each moment, with more rows when somebody asks for them", async () => {
    const { store, views, socket } = await open();
    const first = store.get();
    expect(first).toMatchObject({ rows: pets(50, 49), hasMore: true, isLoading: false, count: 40, isExact: false });
    expect(windowStore(client, "pets", { ...options }).get()).toBe(first);
    first.loadMore();
    expect(await views.next()).toMatchObject({ rows: pets(50, 47), isLoading: false });
    first.loadMore(20);
    expect(await views.next()).toMatchObject({ rows: pets(50, 39), isLoading: true });
    const { ref } = await socket.command();
    socket.send(page(pets(38, 36), false, { ref }), golden.cut);
    expect(await views.next()).toMatchObject({ rows: pets(50, 36), isLoading: false, hasMore: false });
    const { rows } = store.get();
    socket.send({ ...golden.realtime_update, action: "created", data: { pet_id: 60, name: "Luna" }, cursor: "1B" }, golden.cut);
    const { rows: next } = await views.next();
    expect(next).toHaveLength(16);
    expect(next.slice(1).every((row, i) => row === rows[i])).toBe(true);
  });

  test("whose pages are refused says why", async () => {
    const { store, views, socket } = await open();
    store.get().loadMore(20);
    const { ref } = await socket.command();
    socket.send({ ...golden.error, code: "no_snapshot", ref });
    let view = await views.next();
    while (!view.error) view = await views.next();
    expect(view.error).toMatchObject({ code: "no_snapshot" });
    view.loadMore();
  });

  test("that is not enabled asks for nothing", () => {
    const store = windowStore(client, "pets", { ...options, enabled: false });
    store.subscribe(() => {});
    store.get().loadMore();
    expect(store.get()).toMatchObject({ rows: [], hasMore: false, isReady: false });
    expect(client.state).toBe("idle");
  });
});

test("what is not enabled asks for nothing", async () => {
  const pet = undefined as Pet | undefined;
  const options = { key: "pet_id", filter: pet && (`pet_id=eq.${pet.pet_id}` as const) } as const;
  const store = collectionStore(client, "pets", { ...options, enabled: !!pet });
  const { views, leave } = watch(store);
  expect(await views.next()).toEqual({ rows: [], isReady: false });
  expect(store.get()).toEqual({ rows: [], isReady: false });
  const told = new Queue<NotificationView>();
  for (const user of [undefined, null, ""]) notificationStore(client, user).subscribe((view) => told.push(view));
  notificationStore(client, 1, { enabled: false }).subscribe((view) => told.push(view));
  for (let count = 0; count < 4; count++) expect(await told.next()).toMatchObject({ notifications: [], isReady: false });
  leave();
  expect(client.state).toBe("idle");
  expect(server.count).toBe(0);
});

describe("after the last subscriber has left", () => {
  const options = { key: "pet_id" } as const;
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
  afterEach(() => void vi.useRealTimers());

  /** Subscribes until the rows are there, and leaves. */
  async function visit(more: Lifetime = {}) {
    const store = collectionStore(client, "pets", { ...options, ...more });
    const { views, leave } = watch(store);
    const socket = await server.socket();
    expect(await socket.command()).toMatchObject({ type: "subscribe" });
    socket.send(snapshot([{ pet_id: 1, name: "Rex" }]), snapshot([], "1A"), subscribed("1A"), golden.cut);
    while (!(await views.next()).isReady);
    leave();
    return { store, socket };
  }

  async function takenUpAgain(socket: Peer): Promise<void> {
    expect(await socket.command()).toMatchObject({ type: "subscribe", channel: "dogs" });
    expect(await socket.command()).toMatchObject({ type: "unsubscribe", channel: "pets" });
    socket.send(golden.unsubscribed);
    expect(await socket.command()).toMatchObject({ type: "subscribe", channel: "pets" });
  }

  test("a collection stays current for five seconds, and whoever comes within them finds it", async () => {
    const { store, socket } = await visit();
    vi.advanceTimersByTime(4_999);
    const other = new Queue<Change>();
    client.subscribe("dogs", {}, { change: (change) => other.push(change) });
    await socket.command();
    socket.send({ ...subscribed("1A"), channel: "dogs" }, update(2, "1B"), golden.cut);
    socket.send({ ...golden.realtime_update, entity_type: "dogs" });
    await other.next();
    const { views, leave } = watch(store);
    const found = await views.next();
    expect(found.isReady).toBe(true);
    expect(found.rows.map(({ name }) => name)).toEqual(["Rex", "Luna"]);
    vi.advanceTimersByTime(10_000);
    expect(store.get()).toBe(found);
    expect(socket.unread).toEqual([]);
    leave();
    vi.advanceTimersByTime(5_000);
    expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
    expect(store.get()).toEqual({ rows: [], isReady: false });
  });

  test("it stays for as long as it was asked to", async () => {
    const { socket } = await visit({ keepAlive: 60_000 });
    // the client asks after 30 s whether the server lives
    vi.advanceTimersByTime(59_999);
    expect(await socket.command()).toEqual({ type: "ping" });
    socket.send(golden.pong);
    vi.advanceTimersByTime(1);
    await socket.closed;
  });

  test("it ends with the client", async () => {
    const { store, socket } = await visit();
    client.close();
    await socket.closed;
    expect(store.get()).toEqual({ rows: [], isReady: false });
    await expect.poll(() => vi.getTimerCount()).toBe(0);
    expect(() => watch(store)).toThrow("the client was closed");
  });

  test("one that has failed is not kept", async () => {
    const { store, socket } = await visit();
    client.subscribe("dogs");
    const again = watch(store);
    socket.send({ ...golden.error, code: "forbidden", ref: "pets" });
    while (!(await again.views.next()).error);
    again.leave();
    expect(store.get()).toEqual({ rows: [], isReady: false });
    expect((await watch(store).views.next()).error).toBeUndefined();
    await takenUpAgain(socket);
  });

  test("one that fails meanwhile is forgotten", async () => {
    const { store, socket } = await visit();
    client.subscribe("dogs");
    socket.send({ ...golden.error, code: "forbidden", ref: "pets" });
    await expect.poll(() => store.get().rows).toEqual([]);
    expect((await watch(store).views.next()).error).toBeUndefined();
    await takenUpAgain(socket);
  });
});

test("what is kept does not keep a process of Node", () => {
  const timers: NodeJS.Timeout[] = [];
  const real = globalThis.setTimeout;
  vi.spyOn(globalThis, "setTimeout").mockImplementation(((run: () => void, time: number) => {
    const timer = real(run, time);
    timers.push(timer);
    return timer;
  }) as typeof setTimeout);
  const store = collectionStore(client, "pets", { key: "pet_id" });
  store.subscribe(() => {})();
  expect(timers.at(-1)!.hasRef()).toBe(false);
});

test("a user's notifications, the newest first", async () => {
  const store = notificationStore<{ pet_name: string }>(client, 123, { limit: 2 });
  const views = new Queue<NotificationView>();
  const leave = store.subscribe((view) => views.push(view));
  const socket = await server.socket();
  expect(await socket.command()).toMatchObject({ type: "subscribe", channel: "user/123" });
  expect(await views.next()).toMatchObject({ notifications: [], isReady: false });
  socket.send({ ...subscribed("1A"), channel: "user/123" });
  expect(await views.next()).toMatchObject({ notifications: [], isReady: true, hasGap: false });
  for (const id of [1, 2, 3]) socket.send({ ...golden.notification, id, cursor: `1B${id}` });
  const ids = () => store.get().notifications.map(({ id }) => id);
  while (!ids().includes(3)) await views.next();
  expect(ids()).toEqual([3, 2]);
  socket.send({ type: "gap", channel: "user/123", reason: "retention" });
  while (!store.get().hasGap) await views.next();
  expect(ids()).toEqual([3, 2]);
  store.get().clear();
  expect(store.get()).toMatchObject({ notifications: [], hasGap: false, isReady: true });
  const again = notificationStore(client, "123", { limit: 2 });
  expect(again.get()).toBe(store.get());
  leave();
  expect(again.get()).toBe(store.get());
});

describe("the state", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
  afterEach(() => void vi.useRealTimers());

  function shown(delay?: number) {
    const states: State[] = [];
    const store = stateStore(client, { delay });
    return { store, states, leave: store.subscribe((state) => states.push(state)) };
  }

  async function live(): Promise<Peer> {
    const subscription = client.subscribe("pets");
    const socket = await server.socket();
    socket.send(subscribed("1A"));
    await subscription.ready;
    return socket;
  }

  test("is shown as it is, or only what lasts", async () => {
    const [now, later] = [shown(), shown(500)];
    const socket = await live();
    expect(now.states).toEqual(["idle", "connecting", "live"]);
    expect(later.states).toEqual(["idle", "live"]);
    vi.advanceTimersByTime(1_000);
    expect(later.states).toEqual(["idle", "live"]);

    vi.spyOn(Math, "random").mockReturnValue(1);
    const next = () => new Promise<State>((resolve) => client.on("state", resolve));
    const down = next();
    socket.send({ ...golden.error, code: "source_down", channel: "pets" });
    expect(await down).toBe("source_down");
    vi.advanceTimersByTime(300);
    const lost = next();
    socket.cut();
    expect(await lost).toBe("connecting");
    vi.advanceTimersByTime(199);
    expect(later.states).toEqual(["idle", "live"]);
    expect(later.store.get()).toBe("live");
    vi.advanceTimersByTime(1);
    expect(later.states).toEqual(["idle", "live", "connecting"]);
    expect(shown(500).states).toEqual(["connecting"]);
    expect(now.store.getInitial()).toBe("idle");
    client.close();
    expect(later.states.at(-1)).toBe("idle");
  });

  test("of one that was left is followed no longer", async () => {
    const { store, states, leave } = shown(500);
    leave();
    await live();
    vi.advanceTimersByTime(1_000);
    expect(states).toEqual(["idle"]);
    expect(stateStore(client).get()).toBe("live");
    store.subscribe((state) => states.push(state));
    expect(states).toEqual(["idle", "live"]);
  });
});

test("where pages are rendered a store is empty, and opens nothing", () => {
  const views: unknown[] = [];
  collectionStore(connect<{ pets: Pet }>("/"), "pets", { key: "pet_id" }).subscribe((view) => views.push(view))();
  expect(views).toEqual([{ rows: [], isReady: false }]);
});
