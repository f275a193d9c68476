import { createServer } from "node:net";
import { once } from "node:events";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { invalidate } from "../src/query.js";
import { ABSENT, ANSWER_WITHIN, OPEN_WITHIN, PATIENCE, PING_AFTER, TOKEN_WITHIN } from "../src/connection.js";
import { connect, type Client, type ConnectOptions, type RowcastError, type State } from "../src/index.js";
import { Queue } from "./queue.js";
import { golden, Scripted, snapshot, subscribed, update, type Peer } from "./scripted.js";

let server: Scripted;
let client: Client;

/** Timers stand still, sockets do not. A pause before an attempt has no length, so that `advance(0)` ends it. */
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance", "Date"] });
  vi.spyOn(Math, "random").mockReturnValue(0);
  server = await Scripted.start();
});

afterEach(async () => {
  client?.close();
  await server.stop();
  vi.useRealTimers();
});

function open(options: ConnectOptions = {}): Client {
  return (client = connect(server.url, { WebSocket, ...options }));
}

const turn = () => new Promise<undefined>((resolve) => setImmediate(resolve, undefined));

/** The next socket of a client that learns of a loss and pauses first. */
async function nextSocket(): Promise<Peer> {
  const socket = server.socket();
  while (!(await Promise.race([socket, turn()]))) vi.advanceTimersByTime(1);
  return socket;
}

/** Waits until nothing is planned, by the ends of closing sockets either. */
async function noTimers(): Promise<void> {
  while (vi.getTimerCount() > 0) await turn();
}

test("all subscriptions share a socket", async () => {
  open().subscribe("pets", { filter: "user_id=eq.1", columns: ["name"], old: true });
  client.subscribe("users", { snapshot: true });
  client.notifications(123, { since: "1A" });
  const socket = await server.socket();
  expect(socket.path).toBe("/ws?cuts=true");
  expect(socket.protocols).toEqual(["rowcast.v1"]);
  const pets = { filter: "user_id=eq.1", columns: ["name"], old: true };
  const command = await socket.command();
  expect(command).toMatchObject({ type: "subscribe", channel: "pets", ...pets, ref: `pets ${command.view}` });
  expect(await socket.command()).toEqual({ type: "subscribe", channel: "users", snapshot: true, partial: true, ref: "users" });
  expect(await socket.command()).toEqual({ type: "subscribe", channel: "user/123", since: "1A", ref: "user/123" });
});

test("a client can be made where pages are rendered, and used where there are sockets", () => {
  vi.stubGlobal("WebSocket", undefined);
  client = connect("/");
  expect(() => client.subscribe("pets")).toThrow("package ws");
});

test.each(["h:8000", "http://h/x?a=1", "example.com", "", "file:///x", "//"])("%s is refused at once", (url) => {
  expect(() => connect(url, { WebSocket })).toThrow("is no address of a server");
});

test("a path needs a page", () => {
  client = connect("/", { WebSocket });
  expect(() => client.subscribe("pets")).toThrow("is no address of a server");
});

test("a device that has slept can say so", async () => {
  open().subscribe("pets");
  const socket = await server.socket();
  expect(await socket.command()).toMatchObject({ type: "subscribe" });
  client.wake();
  expect(await socket.command()).toEqual({ type: "ping" });
});

test("a server that does not answer is given up, however often the device says that it is awake", async () => {
  const { ready } = open().subscribe("pets");
  const socket = await server.socket();
  await socket.command();
  socket.send(subscribed("1A"));
  await ready;
  for (let waited = 0; waited < ANSWER_WITHIN; waited += 1000) {
    client.wake();
    vi.advanceTimersByTime(1000);
  }
  await socket.closed;
  expect(await socket.command()).toEqual({ type: "ping" });
  expect(socket.unread).toEqual([]);
});

test("what is no message of a server is an error, and another socket", async () => {
  const errors: string[] = [];
  open().subscribe("pets", {}, { error: ({ code, final }) => errors.push(`${code} ${final}`) });
  const first = await server.socket();
  first.socket.send("<html>login</html>");
  await first.closed;
  vi.advanceTimersByTime(0);
  const second = await server.socket();
  expect(await second.command()).toMatchObject({ type: "subscribe" });
  expect(errors).toEqual(["bad_frame false"]);
});

test("a base path is kept", async () => {
  client = connect(`${server.url}/live/`, { WebSocket });
  client.subscribe("pets");
  expect((await server.socket()).path).toBe("/live/ws?cuts=true");
});

test("all subscriptions of a channel are on one socket, and each is told its own", async () => {
  const told: string[] = [];
  const handlers = (name: string) => ({ change: ({ id }: { id: number }) => told.push(`${name} ${id}`) });
  const all = open().subscribe("pets", {}, handlers("all"));
  const again = client.subscribe("pets", {}, handlers("again"));
  const ones = client.subscribe("pets", { filter: "user_id=eq.1" }, handlers("ones"));
  const onesToo = client.subscribe("pets", { filter: "user_id=eq.1" }, handlers("ones too"));
  const old = client.subscribe("pets", { filter: "user_id=eq.1", old: true }, handlers("old"));
  const socket = await server.socket();
  const views: string[] = [];
  for (let i = 0; i < 5; i++) views.push((await socket.command()).view);
  expect(new Set(views).size).toBe(5);
  expect(views[0]).toBeUndefined();
  for (const view of views.slice(1)) expect(view).toMatch(/^[A-Za-z0-9_-]{1,32}$/);
  views.forEach((view, i) => socket.send(subscribed("1A", { view }), update(i, "1B", { view })));
  await Promise.all([all, again, ones, onesToo, old].map(({ ready }) => ready));
  await vi.waitFor(() => expect(told).toEqual(["all 0", "again 1", "ones 2", "ones too 3", "old 4"]), 30_000);

  ones.close();
  const left = { type: "unsubscribe", channel: "pets", view: views[2], ref: `pets ${views[2]}` };
  expect(await socket.command()).toEqual(left);
  socket.send({ ...golden.unsubscribed, view: views[2], ref: left.ref }, { ...golden.gap, view: views[3] });
  // what asks for the same is given the same name, also by another client: the server makes one frame for both
  expect(open().subscribe("pets", { filter: "user_id=eq.1" })).toMatchObject({ view: views[2] });
  expect(server.count).toBeLessThan(3);
});

test("the end of a channel's part of a cut is no end for the socket", async () => {
  open();
  const pets = client.collection("pets", { key: "pet_id" });
  const socket = await server.socket();
  await socket.command();
  socket.send(snapshot([], "1A"), subscribed("1A"), golden.cut);
  await pets.ready;
  const changed = new Queue<number>();
  pets.on("change", () => changed.push(pets.size));
  socket.send(update(1, "1B"), golden.cut_of_a_channel, update(2, "1C", { data: { pet_id: 2 } }), golden.cut);
  expect(await changed.next()).toBe(2);
});

test("a user's notifications for two readers are on two sockets", async () => {
  open().notifications(1);
  client.notifications(1);
  await (await server.socket()).command();
  await (await server.socket()).command();
});

test("a notification and its place belong to the user", async () => {
  const told = new Queue<any>();
  open().notifications(123, {}, { change: (notification) => told.push(notification) });
  const first = await server.socket();
  first.send({ ...golden.subscribed, channel: "user/123" }, golden.notification);
  expect(await told.next()).toEqual(golden.notification);
  first.cut();
  expect(await (await nextSocket()).command()).toMatchObject({ since: golden.notification.cursor });
});

test.each([1001, 1006, 1011, 4408, 4429, 4503])("after %i each subscription resumes with its place", async (code) => {
  const told = new Queue<any>();
  open().subscribe("pets", {}, { change: (change) => told.push(change.id) });
  client.subscribe("users", { snapshot: true });
  const first = await server.socket();
  await first.command();
  await first.command();
  // the second one lies inside a cut, and the socket is lost there
  first.send(subscribed("1A"), update(1, "1A.13"), update(2, "1A.14"));
  first.send({ ...golden.heartbeat, channel: "users", cursor: "1U" });
  await told.next();
  await told.next();
  if (code === 1006) first.cut();
  else first.close(code);
  const second = await nextSocket();
  expect(await second.command()).toMatchObject({ channel: "pets", since: "1A.14" });
  expect(await second.command()).toMatchObject({ channel: "users", since: "1U", snapshot: true });
  second.send(update(3, "1B"), subscribed("1B", { recovered: true }));
  expect(await told.next()).toBe(3);
});

test.each([
  [4400, "bad_request"],
  [4401, "unauthenticated"],
  [4403, "forbidden"],
  [4404, "unknown_channel"],
])("%i is final", async (code, name) => {
  const errors = new Queue<RowcastError>();
  const subscription = open({ token: "a.b.c" }).subscribe("pets", {}, { error: (error) => errors.push(error) });
  (await server.socket()).close(code, "because");
  await expect(subscription.ready).rejects.toMatchObject({ code: name, message: "because", final: true });
  expect(await errors.next()).toMatchObject({ code: name });
  await noTimers();
});

test("whoever subscribes again when told of the end gets a socket", async () => {
  open().subscribe("pets", {}, { error: () => client.subscribe("pets") });
  (await server.socket()).close(4403);
  expect(await (await server.socket()).command()).toMatchObject({ channel: "pets" });
});

const lost = ["unknown_channel", "bad_filter", "forbidden"];

test.each([4400, 4404, ...lost])("%s, which names no channel, ends one of several and no other", async (way) => {
  const pets = open().subscribe("pets");
  const users = client.subscribe("users");
  const first = await server.socket();
  first.send(subscribed("1A"), subscribed("1U", { channel: "users" }));
  await users.ready;
  if (typeof way === "number") first.close(way);
  else first.send({ type: "error", code: way, message: "it was fine until now" });
  const second = await nextSocket();
  // it was not the silence that ended the first one
  expect(first.unread).not.toContainEqual({ type: "ping" });
  expect(await second.command()).toMatchObject({ channel: "pets", since: "1A" });
  expect(await second.command()).toMatchObject({ channel: "users", since: "1U" });
  second.send({ ...golden.error, code: "bad_filter", ref: "pets" });
  await expect(pets[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "bad_filter" });
  expect(await second.command()).toEqual({ type: "unsubscribe", channel: "pets", view: "", ref: "pets" });
});

test.each(["channel", "ref", "no name", "4404"])("a channel that is gone is asked for again: %s", async (way) => {
  const errors = new Queue<string>();
  const pets = open().subscribe("pets", {}, { error: ({ code, final }) => errors.push(`${code} ${final}`) });
  const first = await server.socket();
  await first.command();
  first.send(subscribed("1A"));
  await pets.ready;
  const gone = { type: "error", code: "unknown_channel", message: "its table is no longer watched" };
  if (way === "4404") first.close(4404);
  else first.send(way === "no name" ? gone : { ...gone, [way]: "pets" });
  let socket = first;
  if (way === "4404") {
    socket = await nextSocket();
    expect(await socket.command()).toMatchObject({ type: "subscribe", since: "1A" });
    socket.send({ ...gone, ref: "pets" });
  }
  expect(await errors.next()).toBe("unknown_channel false");
  expect(client.state).toBe("connecting");
  vi.advanceTimersByTime(ABSENT);
  expect(await socket.command()).toMatchObject({ type: "subscribe", channel: "pets", since: "1A" });
  socket.send({ ...gone, ref: "pets" });
  expect(await errors.next()).toBe("unknown_channel false");
  vi.advanceTimersByTime(ABSENT);
  await socket.command();
  socket.send(golden.gap, subscribed("1B"));
  await vi.waitFor(() => expect(client.state).toBe("live"), 30_000);
  client.close();
  await noTimers();
});

test.each(["bad_filter", "forbidden"])("%s ends the subscription that it names, and no other", async (code) => {
  const pets = open().subscribe("pets");
  const users = client.subscribe("users");
  const socket = await server.socket();
  for (let i = 0; i < 2; i++) await socket.command();
  socket.send(subscribed("1A"), { type: "error", code, message: "it was fine until now", channel: "pets" });
  await expect(pets[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code, final: true });
  expect(await socket.command()).toEqual({ type: "unsubscribe", channel: "pets", view: "", ref: "pets" });
  socket.send({ type: "error", code: "not_subscribed", message: "not subscribed to pets", ref: "pets" });
  socket.send(subscribed("1U", { channel: "users" }));
  await users.ready;
  expect(server.count).toBe(1);
});

test("forbidden, which names no channel, ends the only subscription at once", async () => {
  const pets = open().subscribe("pets");
  const socket = await server.socket();
  socket.send(subscribed("1A"), { type: "error", code: "forbidden", message: "no longer" });
  socket.close(4403);
  await expect(pets[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "forbidden", final: true });
  await noTimers();
  expect(server.count).toBe(1);
});

test("an error that names no channel may be of one that is being left: it ends nobody", async () => {
  const pets = open().subscribe("pets");
  const users = client.subscribe("users");
  const first = await server.socket();
  first.send(subscribed("1A"), subscribed("1U", { channel: "users" }));
  await users.ready;
  pets.close();
  first.send({ type: "error", code: "forbidden", message: "no longer" });
  const second = await nextSocket();
  expect(await second.command()).toMatchObject({ channel: "users", since: "1U" });
});

test("what the server refuses ends the subscription and leaves the socket", async () => {
  const subscription = open().subscribe("pets", { filter: "a=eq.1" });
  client.subscribe("users");
  const socket = await server.socket();
  const { ref } = await socket.command();
  socket.send({ type: "error", code: "bad_filter", message: "there is no column a", ref });
  await expect(subscription.ready).rejects.toMatchObject({ code: "bad_filter", final: true });
  expect(server.count).toBe(1);
});

test("a token goes along, and after 4401 a new one", async () => {
  const errors: RowcastError[] = [];
  const tokens = ["one", "two"];
  open({ token: async () => tokens.shift()! }).subscribe("pets", {}, { error: (error) => errors.push(error) });
  const first = await server.socket();
  expect(first.protocols).toEqual(["rowcast.v1", "bearer.one"]);
  first.close(4401, "it has expired");
  expect((await nextSocket()).protocols).toEqual(["rowcast.v1", "bearer.two"]);
  expect(errors).toMatchObject([{ code: "unauthenticated", final: false }]);
});

test("a token that cannot be had is asked for again", async () => {
  const errors: RowcastError[] = [];
  const token = vi.fn<() => string>().mockImplementationOnce(() => {
    throw new Error("logged out");
  });
  token.mockReturnValue("two");
  open({ token }).subscribe("pets", {}, { error: (error) => errors.push(error) });
  expect((await nextSocket()).protocols).toContain("bearer.two");
  expect(errors).toMatchObject([{ code: "no_socket", message: "Error: logged out", final: false }]);
});

const expiring = { type: "token_expiring", expires_in: 40 };

test("a token that expires soon is renewed on the open socket", async () => {
  const tokens = ["one", "two", "three"];
  const { ready } = open({ token: async () => tokens.shift()! }).subscribe("pets");
  const socket = await server.socket();
  await socket.command();
  socket.send(expiring, subscribed("1A"));
  await ready;
  for (const token of ["two", "three"]) {
    vi.advanceTimersByTime(20_000);
    expect(await socket.command()).toEqual({ type: "auth", token });
    const again = client.subscribe(token);
    socket.send({ type: "authenticated", role: "owner", expires_in: 40 }, expiring);
    socket.send(subscribed("1A", { channel: token }));
    await again.ready;
    await socket.command();
  }
  expect(server.count).toBe(1);
});

test("a token that is a text is the only one", async () => {
  const error = ({ message }: RowcastError) => expect.unreachable(message);
  const { ready } = open({ token: "one" }).subscribe("pets", {}, { error });
  const socket = await server.socket();
  await socket.command();
  socket.send(expiring, subscribed("1A"));
  await ready;
  vi.advanceTimersByTime(PING_AFTER);
  expect(await socket.command()).toEqual({ type: "ping" });
});

test.each(["is not believed", "cannot be had"])("a token goes on to its end where the next one %s", async (why) => {
  const token = vi.fn<() => Promise<string>>().mockResolvedValueOnce("one");
  if (why === "cannot be had") token.mockRejectedValueOnce("logged out");
  token.mockResolvedValue("two");
  const errors = new Queue<RowcastError>();
  const { ready } = open({ token }).subscribe("pets", {}, { error: (error) => errors.push(error) });
  const socket = await server.socket();
  await socket.command();
  socket.send(expiring, subscribed("1A"));
  await ready;
  vi.advanceTimersByTime(20_000);
  if (why === "is not believed") {
    expect(await socket.command()).toMatchObject({ type: "auth" });
    socket.send({ type: "error", code: "unauthenticated", message: "the token's signature is wrong" });
  }
  expect(await errors.next()).toMatchObject({ code: "unauthenticated", final: false });
  expect(server.count).toBe(1);
  socket.close(4401, "the token has expired");
  expect((await nextSocket()).protocols).toContain("bearer.two");
  expect(await errors.next()).toMatchObject({ message: "the token has expired", final: false });
});

test("a silent server is asked whether it lives, and replaced when it does not answer", async () => {
  const { ready } = open().subscribe("pets");
  const first = await server.socket();
  await first.command();
  first.send(subscribed("1A"));
  await ready;
  vi.advanceTimersByTime(PING_AFTER);
  expect(await first.command()).toEqual({ type: "ping" });
  vi.advanceTimersByTime(ANSWER_WITHIN);
  const second = await nextSocket();
  expect(await second.command()).toMatchObject({ since: "1A" });
  await first.closed;
});

test("the next socket of one that was silent is given longer to answer: it may be in a long message", async () => {
  open().subscribe("pets");
  for (const patience of [ANSWER_WITHIN, 2 * ANSWER_WITHIN, 4 * ANSWER_WITHIN]) {
    const socket = await nextSocket();
    await socket.command();
    vi.advanceTimersByTime(PING_AFTER);
    expect(await socket.command()).toEqual({ type: "ping" });
    vi.advanceTimersByTime(patience - 1);
    expect(socket.socket.readyState).toBe(1);
    vi.advanceTimersByTime(1);
    await socket.closed;
  }
  const socket = await nextSocket();
  await socket.command();
  socket.send(subscribed("1A"));
  await vi.waitFor(() => expect(client.state).toBe("live"), 30_000);
  vi.advanceTimersByTime(PING_AFTER);
  await socket.command();
  vi.advanceTimersByTime(ANSWER_WITHIN);
  await socket.closed;
});

test("rows that never come to their end are an error that says so", async () => {
  open();
  const errors: string[] = [];
  client.collection("pets", { key: "pet_id" }).on("error", ({ code, final }) => errors.push(`${code} ${final}`));
  for (let i = 0; i < 4; i++) {
    const socket = await nextSocket();
    expect(await socket.command()).toMatchObject({ type: "subscribe" });
    expect(errors).toEqual(i < 3 ? [] : ["no_end false"]);
    socket.send(snapshot([{ pet_id: 1 }]));
    // once the part has come
    socket.close(1001);
    await socket.closed;
  }
});

test("a silent server that answers is kept", async () => {
  const { ready } = open().subscribe("pets");
  const users = client.subscribe("users");
  const socket = await server.socket();
  socket.send(subscribed("1A"));
  await ready;
  for (let i = 0; i < 2; i++) await socket.command();
  vi.advanceTimersByTime(PING_AFTER);
  expect(await socket.command()).toEqual({ type: "ping" });
  socket.send(golden.pong, subscribed("1U", { channel: "users" }));
  await users.ready;
  vi.advanceTimersByTime(PING_AFTER);
  expect(await socket.command()).toEqual({ type: "ping" });
  expect(server.count).toBe(1);
});

test("a socket that does not open is given up", async () => {
  const connections = new Queue<unknown>();
  const mute = createServer((socket) => connections.push(socket.on("error", () => {}))).listen(0, "127.0.0.1");
  await once(mute, "listening");
  const { port } = mute.address() as { port: number };
  client = connect(`http://127.0.0.1:${port}`, { WebSocket });
  client.subscribe("pets");
  await connections.next();
  vi.advanceTimersByTime(OPEN_WITHIN);
  vi.advanceTimersByTime(1);
  await connections.next();
  mute.close();
});

test.each(["online", "visibilitychange"])("%s ends a pause, and asks a socket that seems open", async (event) => {
  const page = new EventTarget();
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  vi.stubGlobal("document", Object.assign(page, { visibilityState: "visible" }));
  vi.mocked(Math.random).mockReturnValue(1);
  const lost = new Queue<void>();
  class Observed extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      this.on("close", () => lost.push());
    }
  }
  open({ WebSocket: Observed }).subscribe("pets");
  const first = await server.socket();
  await first.command();
  page.dispatchEvent(new Event(event));
  expect(await first.command()).toEqual({ type: "ping" });
  first.cut();
  await lost.next();
  page.dispatchEvent(new Event(event));
  await server.socket();
  client.close();
  await noTimers();
});

test("what still comes for a subscription that left is not for the next one", async () => {
  const told = new Queue<any>();
  const first = open().subscribe("pets", {}, { change: () => told.push("the first one's") });
  client.subscribe("users");
  const socket = await server.socket();
  socket.send(subscribed("1A"));
  await first.ready;
  for (let i = 0; i < 2; i++) await socket.command();
  first.close();
  const second = client.subscribe("pets", {}, { change: (change) => told.push(change.id) });
  expect(await socket.command()).toEqual({ type: "unsubscribe", channel: "pets", view: "", ref: "pets" });
  expect(socket.unread).toEqual([]);
  socket.send(update(1, "1B"), golden.unsubscribed);
  expect(await socket.command()).toEqual({ type: "subscribe", channel: "pets", ref: "pets" });
  socket.send(subscribed("1C"), update(2, "1D"));
  expect(await told.next()).toBe(2);
  expect((await second.ready).cursor).toBe("1C");
  expect(server.count).toBe(1);
});

test("one that was refused as it left does not hold up the next one", async () => {
  const first = open().subscribe("pets");
  const socket = await server.socket();
  await socket.command();
  first.close();
  client.subscribe("pets");
  await socket.command();
  socket.send({ ...golden.error, ref: "pets" });
  socket.send({ type: "error", code: "not_subscribed", message: "not subscribed to pets", ref: "pets" });
  expect(await socket.command()).toMatchObject({ type: "subscribe" });
});

test("the last one closes the socket", async () => {
  const subscription = open().subscribe("pets");
  const socket = await server.socket();
  await socket.command();
  subscription.close();
  await socket.closed;
  await noTimers();
});

test("beyond the server's limit for a socket another one is opened", async () => {
  open().subscribe("pets");
  client.subscribe("users");
  const first = await server.socket();
  first.send({ type: "error", code: "too_many_subscriptions", message: "a socket may have 1", ref: "users" });
  const second = await server.socket();
  expect(await second.command()).toMatchObject({ channel: "users" });
  client.subscribe("invoices");
  expect(await second.command()).toMatchObject({ channel: "invoices" });
});

/** That a command was not obeyed. */
const limited = { type: "error", code: "rate_limited", message: "too many commands", retry_after: 0.5 };

test("commands that were too many are sent again, one at a time", async () => {
  const pets = open().subscribe("pets");
  const [users, invoices] = [client.subscribe("users"), client.subscribe("invoices")];
  const socket = await server.socket();
  for (let i = 0; i < 3; i++) await socket.command();
  socket.send(limited, limited, subscribed("1A"));
  await pets.ready;
  vi.advanceTimersByTime(500);
  expect(await socket.command()).toMatchObject({ type: "subscribe", channel: "users" });
  expect(socket.unread).toEqual([]);
  vi.advanceTimersByTime(500);
  expect(await socket.command()).toMatchObject({ type: "subscribe", channel: "invoices" });
  // the first time it had been obeyed, and had only to wait for its answer
  socket.send({ type: "error", code: "already_subscribed", message: "already subscribed", ref: "users" });
  for (const channel of ["users", "invoices"]) socket.send(subscribed("1A", { channel }));
  await Promise.all([users.ready, invoices.ready]);
  expect(server.count).toBe(1);
});

test("a channel is left though that was one command too many", async () => {
  const first = open().subscribe("pets");
  const users = client.subscribe("users");
  const socket = await server.socket();
  for (let i = 0; i < 2; i++) await socket.command();
  socket.send(subscribed("1A"));
  await first.ready;
  first.close();
  const second = client.subscribe("pets");
  expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
  socket.send(limited, subscribed("1U", { channel: "users" }));
  await users.ready;
  vi.advanceTimersByTime(500);
  expect(await socket.command()).toMatchObject({ type: "unsubscribe" });
  socket.send(golden.unsubscribed);
  expect(await socket.command()).toMatchObject({ type: "subscribe" });
  // it had been obeyed both times
  socket.send({ type: "error", code: "not_subscribed", message: "not subscribed to pets", ref: "pets" });
  socket.send(subscribed("1B"));
  expect((await second.ready).cursor).toBe("1B");
});

test("the state is the worst of all subscriptions", async () => {
  const states = new Queue<State>();
  open().on("state", (state) => states.push(state));
  expect(client.state).toBe("idle");
  const { ready } = client.subscribe("pets");
  client.subscribe("users");
  expect(await states.next()).toBe("connecting");
  const first = await server.socket();
  first.send(subscribed("1A"));
  await ready;
  expect(client.state).toBe("connecting");
  const down = { type: "error", code: "source_down", message: "no database", channel: "users" };
  const users = { channel: "users" };
  first.send(subscribed("1U", users), down, { ...golden.heartbeat, ...users });
  for (const state of ["live", "source_down", "live"]) expect(await states.next()).toBe(state);
  first.send(down);
  first.cut();
  const second = await nextSocket();
  for (const state of ["source_down", "connecting"]) expect(await states.next()).toBe(state);
  expect(client.state).toBe("connecting");
  second.send(subscribed("1A"), subscribed("1U", users));
  expect(await states.next()).toBe("live");
  client.close();
  expect(client.state).toBe("idle");
});

test("source_down is told to the subscription that it names", async () => {
  const told = new Queue<string>();
  const error = (name: string) => ({ error: ({ code, final }: RowcastError) => told.push(`${name} ${code} ${final}`) });
  open().subscribe("pets", {}, error("pets"));
  client.subscribe("users", {}, error("users"));
  const down = { type: "error", code: "source_down", message: "no database" };
  (await server.socket()).send({ ...down, channel: "users" }, { ...down, channel: "pets" });
  for (const name of ["users", "pets"]) expect(await told.next()).toBe(`${name} source_down false`);
});

test("source_down that names no channel, and comes for each of them, is told once", async () => {
  const told = new Queue<string>();
  open().subscribe(
    "pets",
    {},
    { change: () => told.push("change"), error: ({ code, final }) => told.push(`${code} ${final}`) },
  );
  client.subscribe("users");
  const down = { type: "error", code: "source_down", message: "no database" };
  (await server.socket()).send(down, down, update(1, "1A"), down, update(2, "1B"));
  for (const expected of ["source_down false", "change", "source_down false", "change"]) {
    expect(await told.next()).toBe(expected);
  }
});

test("close ends everything and leaves no timer", async () => {
  const pets = open().subscribe("pets");
  const again = client.subscribe("pets");
  const socket = await server.socket();
  client.close();
  await socket.closed;
  for (const { ready } of [pets, again]) await expect(ready).rejects.toMatchObject({ code: "closed" });
  await noTimers();
  expect(() => client.subscribe("pets")).toThrow("closed");
});

test("close ends a pause", async () => {
  vi.mocked(Math.random).mockReturnValue(1);
  const errors = new Queue<unknown>();
  open({ token: () => Promise.reject("none") }).subscribe("pets", {}, { error: (error) => errors.push(error) });
  await errors.next();
  client.close();
  await noTimers();
});

/** Two collections whose rows have come, and what each shows at each event of one of them. */
async function joined() {
  open();
  const [a, b] = [client.collection("a", { key: "id" }), client.collection("b", { key: "id" })];
  const shown: string[] = [];
  for (const each of [a, b]) each.on("change", () => shown.push(`${a.get(1)?.v} ${b.get(1)?.v}`));
  const socket = await server.socket();
  for (const channel of ["a", "b"]) {
    socket.send({ ...golden.snapshot_last, channel, rows: [{ id: 1, v: 1 }] }, { ...golden.subscribed, channel });
  }
  socket.send({ type: "cut" });
  await Promise.all([a.ready, b.ready]);
  return { a, b, shown, socket };
}

const changed = (channel: string, v: number) => update(1, "1C", { entity_type: channel, data: { id: 1, v }, action: "updated" });

/** Waits until the client has taken what was sent before. */
async function taken(socket: Peer): Promise<void> {
  client.wake();
  while ((await socket.command()).type !== "ping");
  socket.send(golden.pong);
  await turn();
}

test("all collections show one moment before the first listener is told", async () => {
  const { shown, socket } = await joined();
  socket.send(changed("a", 2));
  await taken(socket);
  expect(shown).toEqual(["1 1", "1 1"]);
  socket.send(changed("b", 2), { type: "cut" });
  await taken(socket);
  expect(shown).toEqual(["1 1", "1 1", "2 2", "2 2"]);
});

test("a function of the application that throws keeps nothing from the others", async () => {
  const thrown = new Queue<unknown>();
  const plan = queueMicrotask;
  vi.stubGlobal("queueMicrotask", (task: () => void) =>
    plan(() => {
      try {
        task();
      } catch (error) {
        thrown.push(error);
      }
    }),
  );
  const { a, socket } = await joined();
  const run = () => {
    throw new Error("the application's own");
  };
  const stop = invalidate(client, { c: ["c"] }, run);
  const b = client.collection("d", { key: "id" });
  const told: unknown[] = [];
  b.on("change", () => told.push(b.get(1)?.v));
  for (const channel of ["c", "d"]) socket.send({ ...golden.snapshot_last, channel, rows: [{ id: 1, v: 1 }] }, { ...golden.subscribed, channel });
  socket.send({ type: "cut" });
  await b.ready;
  socket.send(changed("c", 2), changed("d", 2), { type: "cut" });
  await taken(socket);
  while (told.length < 2) await turn();
  expect([a.get(1)?.v, told]).toEqual([1, [1, 2]]);
  expect(String(await thrown.next())).toMatch("own");
  stop();
});

test("from a gap on all wait for the rows, and no longer than ten seconds", async () => {
  const { a, b, shown, socket } = await joined();
  socket.send({ ...golden.gap, channel: "a" }, changed("b", 2), { type: "cut" });
  await taken(socket);
  expect([a.get(1)?.v, b.get(1)?.v, client.state]).toEqual([1, 1, "connecting"]);
  vi.advanceTimersByTime(PATIENCE);
  socket.send(changed("b", 3), { type: "cut" });
  await taken(socket);
  expect([a.get(1)?.v, b.get(1)?.v]).toEqual([1, 3]);
  socket.send({ ...golden.unsubscribed, channel: "a" });
  socket.send({ ...golden.snapshot_last, channel: "a", rows: [{ id: 1, v: 3 }] }, { ...golden.subscribed, channel: "a" }, { type: "cut" });
  await taken(socket);
  expect(shown.at(-1)).toBe("3 3");
  expect(client.state).toBe("live");
});

test("after ten seconds what came is shown, although nothing more comes", async () => {
  const { a, b, socket } = await joined();
  socket.send({ ...golden.gap, channel: "a" }, changed("b", 2), { type: "cut" });
  await taken(socket);
  vi.advanceTimersByTime(PATIENCE - 1);
  expect(b.get(1)?.v).toBe(1);
  vi.advanceTimersByTime(1);
  expect([a.get(1)?.v, b.get(1)?.v]).toEqual([1, 2]);
});

test("all wait for rows that come, however long a slow line needs for them", async () => {
  const { a, b, shown, socket } = await joined();
  socket.send({ ...golden.gap, channel: "a" }, { ...golden.unsubscribed, channel: "a" });
  for (const v of [2, 3, 4]) {
    socket.send(changed("b", v), { type: "cut" }, { ...golden.snapshot, channel: "a", rows: [{ id: v, v }] });
    await taken(socket);
    vi.advanceTimersByTime(PATIENCE - 1_000);
  }
  expect([a.get(1)?.v, b.get(1)?.v]).toEqual([1, 1]);
  socket.send({ ...golden.snapshot_last, channel: "a", rows: [{ id: 1, v: 4 }] }, { ...golden.subscribed, channel: "a" }, { type: "cut" });
  await taken(socket);
  expect([...new Set(shown)]).toEqual(["1 1", "4 4"]);
});

test("the time without a connection is no time of waiting", async () => {
  const { a, b, socket } = await joined();
  socket.send({ ...golden.gap, channel: "a" }, changed("b", 2), { type: "cut" });
  await taken(socket);
  socket.cut();
  const second = await nextSocket();
  await second.command();
  vi.advanceTimersByTime(PATIENCE);
  second.send({ ...golden.subscribed, channel: "b" }, { type: "cut" });
  await taken(second);
  expect([a.get(1)?.v, b.get(1)?.v]).toEqual([1, 1]);
});

test.each(["ends with an error", "is closed"])("a collection that was waited for and %s lets the others show what came", async (how) => {
  const { a, b, socket } = await joined();
  a.on("error", () => {});
  socket.send({ ...golden.gap, channel: "a" }, changed("b", 2), { type: "cut" });
  await taken(socket);
  expect(b.get(1)?.v).toBe(1);
  // what has come of it is nothing that is shown
  socket.send({ ...golden.unsubscribed, channel: "a" }, { ...golden.snapshot, channel: "a" });
  await taken(socket);
  if (how === "is closed") a.close();
  else socket.send({ ...golden.error, code: "forbidden", ref: "a" });
  await taken(socket);
  await turn();
  expect(b.get(1)?.v).toBe(2);
});

test("ready ends with a collection whose rows were never shown", async () => {
  open();
  const a = client.collection("a", { key: "id" });
  const socket = await server.socket();
  await socket.command();
  socket.send({ ...golden.snapshot_last, channel: "a" }, { ...golden.subscribed, channel: "a" });
  await taken(socket);
  a.close();
  await expect(a.ready).rejects.toMatchObject({ code: "closed" });
});

test("a token function that never answers is asked again", async () => {
  const token = vi.fn<() => Promise<string>>().mockReturnValueOnce(new Promise(() => {})).mockResolvedValue("two");
  open({ token }).subscribe("pets");
  vi.advanceTimersByTime(TOKEN_WITHIN);
  expect((await nextSocket()).protocols).toContain("bearer.two");
});

test("that one was left says nothing of the database", async () => {
  const pets = open().subscribe("pets");
  const users = client.subscribe("users");
  const socket = await server.socket();
  socket.send(subscribed("1A"), { ...subscribed("1U"), channel: "users" });
  await users.ready;
  for (const channel of ["pets", "users"]) socket.send({ ...golden.error, code: "source_down", channel });
  await taken(socket);
  expect(client.state).toBe("source_down");
  pets.close();
  socket.send(golden.unsubscribed);
  await taken(socket);
  expect(client.state).toBe("source_down");
});

test("rows that cannot be read for the moment are asked for again", async () => {
  const errors = new Queue<string>();
  const pets = open().collection("pets", { key: "pet_id" });
  pets.on("error", ({ code, final }) => errors.push(`${code} ${final}`));
  const socket = await server.socket();
  await socket.command();
  socket.send({ ...golden.error, code: "unanswered", ref: "pets" });
  expect(await errors.next()).toBe("unanswered false");
  vi.advanceTimersByTime(ABSENT);
  expect(await socket.command()).toMatchObject({ type: "subscribe", channel: "pets", snapshot: true });
  socket.send(snapshot([{ pet_id: 1 }]), snapshot([], "1A"), subscribed("1A"), golden.cut);
  await pets.ready;
  expect(pets.size).toBe(1);
});
