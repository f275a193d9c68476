/** A window on a socket, against a scripted server. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, RowcastError, type Change, type Client, type Shown } from "../src/index.js";
import type { OrderColumn } from "../src/ordered.js";
import { WindowRows } from "../src/window.js";
import { gap, golden, Scripted, subscribed, type Peer } from "./scripted.js";

interface Order {
  order_id: number;
  total: number;
  note?: string;
}

const ORDER: OrderColumn[] = [
  { column: "total", type: "integer", desc: true, nulls: "first" },
  { column: "order_id", type: "integer", desc: true, nulls: "first" },
];

let server: Scripted;
let client: Client<{ orders: Order; pets: any }>;

beforeEach(async () => {
  vi.spyOn(Math, "random").mockReturnValue(0.01);
  server = await Scripted.start();
  client = connect(server.url, { WebSocket });
});

afterEach(async () => {
  client.close();
  await server.stop();
});

const channel = "orders";
const order = (order_id: number, total = order_id): Order => ({ order_id, total });
/** Orders from one id down to another. */
const orders = (from: number, to: number): Order[] => Array.from({ length: from - to + 1 }, (_, i) => order(from - i));
const rows = (rows: Order[], more?: boolean, rest: object = {}): object => {
  const end = more === undefined ? { last: false } : { last: true, more, order: ORDER, cursor: "1A" };
  return { type: "rows", channel, rows, ...end, ...rest };
};
const live = subscribed("1A", { channel });
const change = (action: string, data: Order | null, more: object = {}): object => ({
  ...golden.realtime_update,
  ...{ entity_type: channel, action, data, changed: undefined, cursor: "1B", ...more },
});
const ids = ({ rows }: Pick<Shown<Order>, "rows">): number[] => rows.map(({ order_id }) => order_id);

/** A window of three orders, live: it holds orders `from` down, as many as it asked for. */
async function open(options: object = {}, from = 100, more = true) {
  const window = client.window("orders", { key: "order_id", order: "total.desc", limit: 3, ...options });
  const events: { set: unknown[]; removed: unknown[]; ids: number[] }[] = [];
  window.on("change", ({ set, removed }) => events.push({ set: [...set.keys()], removed: [...removed.keys()], ids: ids(window) }));
  const errors: RowcastError[] = [];
  window.on("error", (error) => errors.push(error));
  const socket = await server.socket();
  const asked = await socket.command();
  const last = more ? from - asked.rows.limit + 1 : 1;
  socket.send(rows(orders(from, last), more), live, golden.cut);
  await window.ready;
  return { window, socket, asked, events, errors, last };
}

/** Sends a cut, and waits until the client has handled it. */
async function cut(socket: Peer, ...messages: object[]): Promise<void> {
  const other = client.subscribe("pets");
  while ((await socket.command()).channel !== "pets");
  socket.send(...messages, golden.cut, subscribed("1A", { channel: "pets" }));
  await other.ready;
  other.close();
  expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
  socket.send({ type: "unsubscribed", channel: "pets" });
}

test("it asks for its rows with a few more, and shows the first ones", async () => {
  const { window, socket, asked, events } = await open();
  expect(asked).toEqual({ type: "subscribe", channel, rows: { order: "total.desc", limit: 13 }, ref: channel });
  expect(ids(window)).toEqual([100, 99, 98]);
  expect(window.shown).toEqual({ rows: orders(100, 98), hasMore: true, isLoading: false });
  expect(events).toEqual([{ set: [100, 99, 98], removed: [], ids: [100, 99, 98] }]);
  expect(socket.unread).toEqual([]);
});

test("a parser may give BigInt", async () => {
  client.close();
  const parse = (text: string) => JSON.parse(text, (key, value) => (key === "total" ? BigInt(value) : value));
  client = connect(server.url, { WebSocket, parse });
  const { window, socket } = await open({}, 100);
  expect(ids(window)).toEqual([100, 99, 98]);
  socket.send({ ...gap("retention"), channel });
  expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
  socket.send({ type: "unsubscribed", channel });
  expect(await socket.command()).toMatchObject({ type: "subscribe" });
  await cut(socket, rows(orders(101, 89), true), live);
  expect(ids(window)).toEqual([101, 100, 99]);
});

test("filter, columns and count go with it, and the count follows", async () => {
  const columns = ["order_id", "total"] as const;
  const window = client.window("orders", { key: "order_id", filter: "total=gt.1", columns, count: true, limit: 3 });
  const socket = await server.socket();
  const { view, ...asked } = await socket.command();
  expect(asked).toMatchObject({ filter: "total=gt.1", columns, rows: { limit: 13, count: "exact" } });
  expect(view).toMatch(/^\w+$/);
  const named = { view };
  socket.send(rows(orders(9, 8), undefined, named), rows(orders(7, 5), false, { ...named, count: 5, exact: true }));
  socket.send({ ...live, view }, golden.cut);
  await window.ready;
  expect(window).toMatchObject({ count: 5, isExact: true, hasMore: true });
  socket.send(change("entered", order(2), named), change("deleted", order(9), named), golden.cut);
  await expect.poll(() => ids(window)).toEqual([8, 7, 6]);
  expect(window.count).toBe(5);
  socket.send(change("left", order(2), named), golden.cut);
  await expect.poll(() => window.count).toBe(4);
});

test("nothing of a transaction is shown before its cut, and then all at once", async () => {
  const { window, socket, events } = await open();
  const before = window.rows;
  socket.send(change("deleted", order(99)), change("created", order(200)));
  await cut(socket, change("updated", order(97, 150), { changed: ["total"] }));
  expect(events.slice(1)).toEqual([{ set: [200, 97], removed: [99, 98], ids: [200, 97, 100] }]);
  expect(window.rows[2]).toBe(before[0]);
  // what concerns rows behind those that are shown is no event, and the array stays
  const { rows: shown } = window;
  await cut(socket, change("updated", order(95, 95), { changed: ["note"] }), change("created", order(1)));
  expect(events).toHaveLength(2);
  expect(window.rows).toBe(shown);
});

test("what JSON cannot tell apart from the row that was there stays that row", async () => {
  const { window, socket } = await open({}, 5, false);
  const before = window.rows;
  socket.send({ ...gap("retention"), channel });
  expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
  socket.send({ type: "unsubscribed", channel });
  const again = await socket.command();
  expect(again).toMatchObject({ type: "subscribe", rows: { limit: 13 } });
  expect(again).not.toHaveProperty("since");
  const changed = new Promise((resolve) => window.on("change", resolve));
  socket.send(rows([order(5), { ...order(4), note: "other" }, order(3)], false), live, golden.cut);
  await changed;
  expect(window.rows[0]).toBe(before[0]);
  expect(window.rows[1]).toEqual({ ...order(4), note: "other" });
  expect(window.hasMore).toBe(false);
});

test("rows that are held already are shown at once when more are loaded, and no page is asked for before they run out", async () => {
  const { window, socket, events, last } = await open();
  await window.loadMore();
  expect(ids(window)).toEqual([100, 99, 98, 97, 96, 95]);
  expect(events.at(-1)).toMatchObject({ set: [97, 96, 95], removed: [] });
  const more = window.loadMore(10);
  expect(window.loadMore(50)).toBeInstanceOf(Promise); // a user who scrolls calls often
  expect(ids(window)).toHaveLength(13);
  expect(window.isLoading).toBe(true);
  const first = await socket.command();
  expect(first).toEqual({
    ...{ type: "rows", channel, order: "total.desc", limit: expect.any(Number), ref: [channel, 1] },
    after: { total: last, order_id: last },
  });
  socket.send(rows(orders(last - 1, last - first.limit), true, { ref: first.ref }), golden.cut);
  await more;
  expect(ids(window)).toEqual(orders(100, 85).map(({ order_id }) => order_id));
  expect(window).toMatchObject({ isLoading: false, hasMore: true });
  const rest = window.loadMore(50);
  const second = await socket.command();
  expect(second.after).toEqual({ total: last - first.limit, order_id: last - first.limit });
  socket.send(rows(orders(second.after.order_id - 1, 70), false, { ref: second.ref }), golden.cut);
  await rest;
  expect(ids(window)).toHaveLength(31);
  expect(window.hasMore).toBe(false);
  const settled = window.rows;
  await window.loadMore();
  expect(window.rows).toBe(settled);
});

test("rows that changed since a page was asked for are as they are now, also those that are gone", async () => {
  const { window, socket, last } = await open();
  await window.loadMore(6);
  const { ref, limit } = await socket.command();
  const page = orders(last - 1, last - limit);
  const [gone, moved, kept] = page.map(({ order_id }) => order_id);
  socket.send(change("deleted", order(gone!)), change("updated", order(moved!, 99), { changed: ["total"] }));
  socket.send(change("created", order(500, kept!)), golden.cut);
  socket.send(rows(page.slice(0, 2), undefined, { ref }));
  await cut(socket, rows(page.slice(2), false, { ref }));
  await window.loadMore(100);
  expect(ids(window)).toEqual([100, 99, moved, ...orders(98, last), 500, ...page.slice(2)].map((each: any) => each.order_id ?? each));
});

test("a row that comes behind the known end is not shown as the next one", async () => {
  const { window, socket, last } = await open();
  socket.send(change("created", order(1)), ...orders(100, last).map((row) => change("deleted", row)), golden.cut);
  const page = await socket.command();
  expect(window.shown).toEqual({ rows: [], hasMore: true, isLoading: true });
  expect(page).toMatchObject({ type: "rows", limit: 13, after: { order_id: last } });
  socket.send(rows([order(50), order(1)], false, { ref: page.ref }), golden.cut);
  await expect.poll(() => ids(window)).toEqual([50, 1]);
  expect(window).toMatchObject({ hasMore: false, isLoading: false });
});

test("a lost connection: it goes on where it was, and asks again for the page that had not come", async () => {
  const { window, socket, last } = await open();
  await window.loadMore(6);
  const { ref, limit } = await socket.command();
  socket.send(change("deleted", order(100), { cursor: "1C" }), golden.cut);
  socket.send(rows(orders(last - 1, last - 1), undefined, { ref }));
  await expect.poll(() => ids(window)[0]).toBe(99);
  socket.cut();
  const next = await server.socket();
  expect(await next.command()).toMatchObject({ type: "subscribe", since: "1C", rows: { order: "total.desc", limit: 19 } });
  next.send(change("deleted", order(99)), subscribed("1D", { channel, recovered: true, replayed: 1 }), golden.cut);
  const again = await next.command();
  expect(again).toMatchObject({ type: "rows", limit, after: { order_id: last }, ref });
  next.send(rows(orders(last - 1, last - limit), true, { ref: again.ref }), golden.cut);
  await window.loadMore(3);
  expect(ids(window)).toEqual(orders(98, 87).map(({ order_id }) => order_id));
});

test("a place that cannot be honoured: the window is read again at its size", async () => {
  const { window, socket } = await open();
  await window.loadMore(7);
  socket.cut();
  const next = await server.socket();
  expect((await next.command()).rows.limit).toBe(20);
  next.send({ ...gap("retention"), channel }, rows(orders(300, 281), true), live, golden.cut);
  await expect.poll(() => ids(window)[0]).toBe(300);
  expect(ids(window)).toHaveLength(10);
});

test("a window of more rows than a page has is read in several", async () => {
  const window = client.window("orders", { key: "order_id", order: "total.desc", limit: 1_200 });
  const socket = await server.socket();
  expect((await socket.command()).rows.limit).toBe(1_000);
  socket.send(rows(orders(5_000, 4_001), true), live, golden.cut);
  let isReady = false;
  void window.ready.then(() => (isReady = true));
  const { limit, ref } = await socket.command();
  expect([limit, window.rows.length, window.isLoading, isReady]).toEqual([300, 1_000, true, false]);
  socket.send(rows(orders(4_000, 3_701), true, { ref }), golden.cut);
  await window.ready;
  expect(ids(window)).toEqual(orders(5_000, 3_801).map(({ order_id }) => order_id));
});

test("a row that is too long keeps its place, and is read again where its place is not told", async () => {
  const { window, socket } = await open({}, 5, false);
  socket.send(change("updated", { order_id: 4 } as Order, { omitted: "row_bytes", changed: [] }), golden.cut);
  expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
  expect(ids(window)).toEqual([5, 4, 3]);
  socket.send({ type: "unsubscribed", channel });
  expect(await socket.command()).not.toHaveProperty("since");
  socket.send(rows([order(5)]), { ...rows([order(4, 4)]), omitted: "row_bytes" }, rows(orders(3, 1), false), live);
  await cut(socket);
  expect(window.rows).toEqual(orders(5, 3));
  // by the key alone, its place is known
  await cut(socket, change("deleted", { order_id: 4 } as Order, { omitted: "row_bytes" }));
  expect(ids(window)).toEqual([5, 3, 2]);
});

test("a row that cannot be placed while it comes back: the rows are read again", async () => {
  const { window, socket } = await open({}, 5, false);
  socket.cut();
  const next = await server.socket();
  await next.command();
  next.send(change("updated", { order_id: 4 } as Order, { omitted: "row_bytes", changed: [] }), live, golden.cut);
  expect(await next.command()).toMatchObject({ type: "unsubscribe" });
  next.send({ type: "unsubscribed", channel });
  expect(await next.command()).not.toHaveProperty("since");
  next.send(rows(orders(9, 5), false), live, golden.cut);
  await expect.poll(() => ids(window)).toEqual([9, 8, 7]);
});

test("what the server refuses ends the window", async () => {
  const window = client.window("orders", { key: "order_id", order: "note" });
  const refused = window.ready.catch(({ code }: RowcastError) => code);
  const socket = await server.socket();
  const { ref } = await socket.command();
  socket.send({ ...golden.error, code: "bad_order", ref });
  expect(await refused).toBe("bad_order");
  await expect(window.loadMore()).rejects.toMatchObject({ code: "closed" });
});

test("a server of a version that knows no windows is told apart from an empty table", async () => {
  const window = client.window("orders", { key: "order_id" });
  const refused = window.ready.catch(({ code }: RowcastError) => code);
  const socket = await server.socket();
  await socket.command();
  socket.send(live, golden.cut);
  expect(await refused).toBe("not_supported");
});

test("a page that is refused ends it too, and what was shown stays", async () => {
  const { window, socket, errors } = await open();
  const more = window.loadMore(20).catch(({ code }: RowcastError) => code);
  const { ref } = await socket.command();
  socket.send({ ...golden.error, code: "no_snapshot", ref });
  expect(await more).toBe("no_snapshot");
  expect(errors).toMatchObject([{ code: "no_snapshot", final: true }]);
  expect(ids(window)).toHaveLength(13);
});

test("a page that was one command too many is asked for again", async () => {
  const { window, socket } = await open();
  const more = window.loadMore(20);
  const { ref, limit } = await socket.command();
  socket.send({ ...golden.error, code: "rate_limited", retry_after: 0.01, ref });
  const again = await socket.command();
  expect(again).toMatchObject({ type: "rows", limit, ref });
  socket.send(rows(orders(87, 60), false, { ref }), golden.cut);
  await more;
  expect(ids(window)).toHaveLength(23);
});

test("two windows of one channel, in different orders, are apart", async () => {
  const { window, socket } = await open({}, 5, false);
  const other = client.window("orders", { key: "order_id", order: "order_id", limit: 2 });
  const { view, ...asked } = await socket.command();
  expect(asked).toMatchObject({ channel, rows: { order: "order_id", limit: 12 } });
  expect(view).toBe("1");
  const ascending = [{ column: "order_id", type: "integer", desc: false, nulls: "last" }];
  socket.send(rows(orders(5, 1).reverse(), false, { view, order: ascending }), { ...live, view }, golden.cut);
  await other.ready;
  expect([ids(window), ids(other)]).toEqual([[5, 4, 3], [1, 2]]);
  const events: number[][] = [];
  for (const each of [window, other]) each.on("change", () => events.push(ids(window), ids(other)));
  const gone = change("deleted", order(5));
  await cut(socket, gone, { ...gone, view }, change("created", order(0)), change("created", order(0), { view }));
  // both show the moment before either tells of it
  expect(events).toEqual([[4, 3, 2], [0, 1], [4, 3, 2], [0, 1]]);
});

test("who asks for nothing sensible is told so", () => {
  expect(() => client.window("orders", { key: "order_id", limit: 0 })).toThrow("limit of a window is 0");
});

test("a page whose end fell off meanwhile leaves no hole", () => {
  const state = new WindowRows<Order>(({ order_id }) => order_id, 1);
  const page = (rows: Order[], more: boolean, ref?: [string, number]) =>
    state.page({ type: "rows", channel, rows, last: true, more, order: ORDER, ...(ref ? { ref } : {}) });
  const tell = (action: "created" | "deleted", data: Order) => state.change({ action, data, tx: "1" } as Change<Order>);
  page(orders(10, 8), true);
  state.cut();
  const wish = state.wish()!;
  expect(wish.after).toEqual({ total: 8, order_id: 8 });
  // one more than it keeps: from 10 on none is held any more
  for (const row of orders(29, 11).reverse()) tell("created", row);
  for (const row of orders(18, 11)) tell("deleted", row);
  page(orders(7, 1), false, ["", wish.n]);
  for (const row of orders(29, 25)) tell("deleted", row);
  state.cut();
  state.grow(100);
  expect(state.shown).toMatchObject({ rows: orders(24, 19), hasMore: true });
});
