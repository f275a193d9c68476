/** docs/asyncapi.json and docs/openapi.json: they are sound, and the server does what they say. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Ajv2020 as Ajv } from "ajv/dist/2020.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { subprotocols } from "../src/token.js";
import { jwt, SECRET } from "./jwt.js";
import { golden } from "./scripted.js";
import { insertPets, missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

const read = (path: string) => readFileSync(new URL(`../../docs/${path}`, import.meta.url), "utf8");
const documents: Record<string, any> = {
  asyncapi: JSON.parse(read("asyncapi.json")),
  openapi: JSON.parse(read("openapi.json")),
};
const { asyncapi, openapi } = documents;

const formats = { "date-time": (text: string) => /^\d{4,}-\d\d-\d\dT/.test(text) && !Number.isNaN(Date.parse(text)) };
const SCHEMAS = "#/components/schemas/";
// a schema of a part of a thing does not repeat its type
const ajv = new Ajv({ allErrors: true, strictTypes: false, strictRequired: false, formats });
for (const [name, { components }] of Object.entries(documents)) {
  const $defs = JSON.parse(JSON.stringify(components.schemas).replaceAll(SCHEMAS, "#/$defs/"));
  ajv.addSchema({ $defs }, name);
}

/** What is at a place of a document: `#/components/schemas/pong`. */
function at(document: any, pointer: string): any {
  const names = pointer.slice(2).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  return names.reduce((within, name) => within?.[name], document);
}

/** A place, with one reference followed. */
function follow(document: any, value: any): any {
  return value.$ref ? follow(document, at(document, value.$ref)) : value;
}

/** What is wrong with a value by a schema of a document; nothing if it is right. */
function wrong(document: string, schema: string, value: unknown): string[] {
  const validate = ajv.getSchema(schema.replace(SCHEMAS, `${document}#/$defs/`))!;
  return validate(value) ? [] : validate.errors!.map((error) => `${error.instancePath} ${error.message}`);
}

/** Names of the messages that the server sends, or that a client does. */
function messagesOf(action: "send" | "receive"): string[] {
  const operations = Object.values<any>(asyncapi.operations).filter((operation) => operation.action === action);
  return [...new Set(operations.flatMap(({ messages }) => messages.map(nameOf)))] as string[];
}

const nameOf = ({ $ref }: { $ref: string }) => $ref.split("/").at(-1)!;
const SAID = messagesOf("send");
const COMMANDS = messagesOf("receive");

/** The messages that some value may be: one, if the schemas are good. */
function kindsOf(value: unknown, among = SAID): string[] {
  return among.filter((name) => wrong("asyncapi", asyncapi.components.messages[name].payload.$ref, value).length === 0);
}

function* places(value: any, path = "#"): Generator<[string, any]> {
  if (value === null || typeof value !== "object") return;
  yield [path, value];
  for (const [key, each] of Object.entries(value)) {
    // what is in an example is no part of the description
    if (!/^examples?$/.test(key)) yield* places(each, `${path}/${key}`);
  }
}

/** The cells of the tables under a heading of docs/reference/protocol.md, first column. */
function listed(heading: string, column = /^\| (.+?) \|/gm): string[] {
  const section = read("reference/protocol.md").split(`\n## ${heading}\n`)[1]!.split("\n## ")[0]!;
  return [...section.matchAll(column)].map((found) => found[1]!);
}

describe("the descriptions", () => {
  const TEXT = expect.stringMatching(/\S/);

  test.each(Object.keys(documents))("%s: every reference leads somewhere, every schema can be used", (name) => {
    for (const [path, { $ref }] of places(documents[name])) {
      if (typeof $ref === "string") expect(at(documents[name], $ref), `${path} → ${$ref}`).toBeDefined();
    }
    for (const schema of Object.keys(documents[name].components.schemas)) {
      expect(ajv.getSchema(`${name}#/$defs/${schema}`), schema).toBeTypeOf("function");
    }
  });

  test.each(Object.keys(documents))("%s: nothing is described that is not used", (name) => {
    const used = new Set([...places(documents[name])].map(([, { $ref }]) => $ref));
    for (const [kind, all] of Object.entries<any>(documents[name].components)) {
      const names = kind === "securitySchemes" && name === "openapi" ? [] : Object.keys(all);
      for (const each of names) expect(used, each).toContain(`#/components/${kind}/${each}`);
    }
  });

  test("openapi: every operation says what it is for and what it answers", () => {
    expect(openapi.openapi).toMatch(/^3\.1\./);
    const ids = new Set();
    for (const [path, item] of Object.entries<any>(openapi.paths)) {
      for (const operation of Object.values<any>(item)) {
        expect(operation, path).toMatchObject({ summary: TEXT, description: TEXT, operationId: TEXT });
        expect(openapi.tags.map((tag: any) => tag.name)).toEqual(expect.arrayContaining(operation.tags));
        expect(ids).not.toContain(operation.operationId);
        ids.add(operation.operationId);
        const inPath = (operation.parameters ?? []).map((each: any) => follow(openapi, each));
        const named = inPath.filter((each: any) => each.in === "path").map((each: any) => `{${each.name}}`);
        expect(named).toEqual(path.match(/\{\w+\}/g) ?? []);
        expect(Object.keys(operation.responses).length).toBeGreaterThan(0);
        for (const response of Object.values(operation.responses)) {
          expect(follow(openapi, response).description, path).toMatch(/\S/);
        }
      }
    }
  });

  test("asyncapi: every operation says what it is for and names its messages", () => {
    expect(asyncapi.asyncapi).toMatch(/^3\.0\./);
    for (const [name, operation] of Object.entries<any>(asyncapi.operations)) {
      expect(operation, name).toMatchObject({ summary: TEXT, description: TEXT });
      expect(Object.keys(asyncapi.channels).map((key) => `#/channels/${key}`)).toContain(operation.channel.$ref);
      const all = [...operation.messages, ...(operation.reply?.messages ?? [])];
      for (const { $ref } of all) expect($ref.startsWith(`${operation.channel.$ref}/messages/`), $ref).toBe(true);
    }
    for (const [name, message] of Object.entries<any>(asyncapi.components.messages)) {
      expect(message, name).toMatchObject({ summary: TEXT });
      expect(message.examples.length, name).toBeGreaterThan(0);
    }
  });

  test("examples are what they are examples of", () => {
    for (const [names, among] of [[SAID, SAID], [COMMANDS, COMMANDS]] as const) {
      for (const name of names) {
        for (const { payload } of asyncapi.components.messages[name].examples) {
          expect(kindsOf(payload, among), JSON.stringify(payload)).toEqual([name]);
        }
      }
    }
  });

  test("the golden messages are among the examples", () => {
    for (const [name, message] of Object.entries<any>(golden)) {
      const examples = asyncapi.components.messages[message.type].examples.map((example: any) => example.payload);
      expect(examples, name).toContainEqual(message);
    }
  });

  test("what docs/reference/protocol.md lists is what asyncapi lists", () => {
    const consts = (schema: string, field: string) =>
      asyncapi.components.schemas[schema].properties[field].oneOf.map((each: any) => each.const);
    const closes: any[] = asyncapi["x-close-codes"];
    expect(closes.map(({ code }) => String(code))).toEqual(listed("Close codes", /^\| (\d+) \|/gm));
    const final = closes.filter((each) => each.final).map(({ code }) => code);
    expect(final).toEqual([4400, 4403, 4404]);
    const codes = listed("Messages from the server", /^\| ((?:`\w+`, )*`\w+`) \|/gm).join();
    for (const code of consts("error", "code")) expect(codes).toContain(`\`${code}\``);
    for (const reason of consts("gap", "reason")) expect(codes).toContain(`\`${reason}\``);
    const commands = listed("Commands from the client", /"type":"(\w+)"/g);
    const described = COMMANDS.map((command) => asyncapi.components.messages[command].name);
    expect(described.sort()).toEqual([...new Set(commands)].sort());
    const paths = listed("HTTP", /^\| (`\/.*?`) \|/gm).join().match(/\/[^`]*/g);
    expect(Object.keys(openapi.paths)).toEqual(expect.arrayContaining(paths!));
  });
});

describe("golden messages", () => {
  test.each(Object.keys(golden))("%s fits its schema and no other", (name) => {
    expect(kindsOf(golden[name])).toEqual([golden[name].type]);
  });

  /** Fields that a message of the type may lack, and such as may hold anything. */
  const optional = ({ type, last }: any) => {
    if (type === "cut") return ["ref", "actor", "view", "cursor", "channel"];
    if (type === "rows") return ["ref", "view"];
    return ["ref", "actor", "view", type === "snapshot" ? (last ? "" : "cursor") : "last"];
  };
  const free = (type: string) => (type === "notification" ? ["ref", "data"] : ["ref"]);

  test.each(Object.keys(golden))("%s does not, with a field less, of a wrong type, or too many", (name) => {
    const message = golden[name];
    for (const field of Object.keys(message)) {
      const { [field]: _, ...less } = message;
      expect(kindsOf(less), `without ${field}`).toHaveLength(optional(message).includes(field) ? 1 : 0);
      const isFree = free(message.type).includes(field);
      expect(kindsOf({ ...message, [field]: [[]] }), `another ${field}`).toHaveLength(isFree ? 1 : 0);
    }
    expect(kindsOf({ ...message, unknown: 1 })).toEqual([]);
  });

  const update = golden.realtime_update;
  const { changed: _, ...created } = { ...update, action: "created" };
  test.each([
    ["changed of what was not updated", { ...created, changed: ["name"] }],
    ["old of what was not updated", { ...created, old: { name: "Lu" } }],
    ["a created row that is none", { ...created, data: null }],
    ["a truncated table with a row", { ...created, action: "truncated" }],
    ["no moment", { ...update, timestamp: "2024-01-15 10:30:00" }],
    ["no cursor", { ...update, cursor: "" }],
    ["a snapshot that ends nowhere", { ...golden.snapshot, last: true }],
    ["a snapshot that ends in the middle", { ...golden.snapshot, cursor: "1BBBB" }],
    ["a reason that nobody knows", { ...golden.gap, reason: "bad luck" }],
    ["a code that nobody knows", { ...golden.error, code: "oops" }],
    ["an error of a channel and of a command", { ...golden.error, channel: "cats" }],
    ["a limit without an end", { ...golden.error, code: "rate_limited" }],
    ["an end without a limit", { ...golden.error, retry_after: 1 }],
  ])("%s is no message", (_, message) => expect(kindsOf(message)).toEqual([]));

  test.each([
    ["created", created],
    ["truncated", { ...created, action: "truncated", data: null }],
    ["a publication", { ...created, action: "flash", data: [1] }],
    ["old", { ...update, old: { name: "Lu" } }],
  ])("%s is one", (_, message) => expect(kindsOf(message)).toEqual(["realtime_update"]));
});

/** A socket, all that it hears, and what of that is not as described. */
class Talk {
  readonly heard: any[] = [];
  readonly #taken = new Set<unknown>();
  readonly closed: Promise<number>;
  #news = () => {};

  private constructor(readonly socket: WebSocket) {
    this.closed = new Promise((resolve) => socket.on("close", resolve));
    socket.on("message", (data) => {
      this.heard.push(JSON.parse(String(data)));
      this.#news();
    });
  }

  static async open(server: Server, path: string, token?: string): Promise<Talk> {
    const talk = new Talk(new WebSocket(server.url.replace("http", "ws") + path, subprotocols(token)));
    await once(talk.socket, "open");
    return talk;
  }

  say(command: object): void {
    this.socket.send(JSON.stringify(command));
  }

  /** The first message that has these fields and was not waited for before. */
  async until(fields: Record<string, unknown>): Promise<any> {
    const fits = (message: any) => Object.entries(fields).every(([name, value]) => message[name] === value);
    for (;;) {
      const news = new Promise<void>((resolve) => (this.#news = resolve));
      const message = this.heard.find((message) => !this.#taken.has(message) && fits(message));
      if (message) {
        this.#taken.add(message);
        return message;
      }
      await news;
    }
  }

  /** Expects that each message was as described; their names. */
  names(): string[] {
    const names = this.heard.map((message) => {
      const kinds = kindsOf(message);
      const schema = asyncapi.components.messages[message.type]?.payload.$ref;
      expect(kinds, `${JSON.stringify(message)}: ${schema && wrong("asyncapi", schema, message)}`).toHaveLength(1);
      return kinds[0]!;
    });
    return [...new Set(names)].sort();
  }
}

/** Sends the examples of a command; expects an answer that the description names, and no error. */
async function obeys(command: string, server: Server, token?: string): Promise<void> {
  const { reply } = asyncapi.operations[command];
  const answers = reply.messages.map(nameOf).filter((name: string) => name !== "error");
  for (const { payload } of asyncapi.components.messages[command].examples) {
    const talk = await Talk.open(server, "/ws", token);
    if (command === "unsubscribe" || command === "cuts") {
      talk.say({ type: "subscribe", channel: payload.channel ?? "pets" });
      await talk.until({ type: "subscribed" });
      talk.heard.length = 0;
    }
    const sent = command === "auth" ? { ...payload, token } : { ...payload };
    if (command === "sync") {
      talk.say({ type: "subscribe", channel: "pets" });
      sent.cursor = (await talk.until({ type: "subscribed" })).cursor;
      talk.heard.length = 0;
    }
    talk.say(sent);
    const last = answers.at(-1) === "test_echo" ? "test" : answers.at(-1);
    expect(await talk.until({ type: last })).toMatchObject(sent.ref === undefined ? {} : { ref: sent.ref });
    const names = talk.names().filter((name) => name !== "heartbeat");
    expect(answers, JSON.stringify(payload)).toEqual(expect.arrayContaining(names));
    talk.socket.close();
  }
}

const PETS = "create table pets (pet_id bigint primary key, owner bigint, name text)";
const WATCH = `select rowcast.watch('public.pets', user_rule => 'owner', notification => '{"pet_name": "name"}')`;

describeWhere(missing(), "a real server", () => {
  let server: Server;

  beforeAll(async () => {
    server = await Server.start({ tables: PETS, watch: WATCH, env: { ROWCAST_HEARTBEAT_SECONDS: "1" } });
  });
  afterAll(() => server?.stop());

  const ofAll = COMMANDS.filter((command) => command !== "auth");
  test.each(ofAll)("obeys %s as described", (command) => obeys(command, server));

  test("says nothing that is not described", async () => {
    server.sql(`truncate pets; ${insertPets(1, 3)}`);
    const all = await Talk.open(server, "/ws");
    all.say({ type: "subscribe", channel: "pets", snapshot: true, old: true, ref: { any: ["thing"] } });
    expect(await all.until({ type: "snapshot", last: true })).toHaveProperty("cursor");
    const { cursor } = await all.until({ type: "subscribed" });
    all.say({ type: "subscribe", channel: "user/1" });
    await all.until({ type: "subscribed", channel: "user/1" });
    const some = await Talk.open(server, "/ws/pets?filter=owner=eq.1&columns=pet_id,owner");
    await some.until({ type: "subscribed" });

    for (const [statement, action, seen] of [
      ["insert into pets values (9, 1, 'Luna')", "created", "created"],
      ["update pets set owner = 2 where pet_id = 9", "updated", "left"],
      ["update pets set owner = 1 where pet_id = 9", "updated", "entered"],
      ["update pets set pet_id = 8 where pet_id = 9", "updated", "updated"],
      ["delete from pets where pet_id = 8", "deleted", "deleted"],
      ["truncate pets", "truncated", "truncated"],
      [`select rowcast.publish('pets', 'flash', '{"owner": 1}')`, "flash", "flash"],
      ["select rowcast.publish('pets', 'flash', '[1]')", "flash", undefined],
    ] as const) {
      server.sql(statement);
      await all.until({ type: "realtime_update", action });
      if (seen) await some.until({ type: "realtime_update", action: seen });
    }
    await all.until({ type: "notification", notification_type: "pet_deleted" });
    server.sql("select rowcast.notify('1', 'hello', 'null')");
    await all.until({ type: "notification", notification_type: "hello" });

    all.say({ type: "cuts" });
    await all.until({ type: "cut" });

    const again = await Talk.open(server, `/ws/pets?since=${cursor}`);
    const { recovered, replayed } = await again.until({ type: "subscribed" });
    // the rows may be those of a moment before the truncation, and the four changes of that moment follow then
    expect([[8, true], [12, true]]).toContainEqual([replayed, recovered]);
    const lost = await Talk.open(server, "/ws/pets?since=1nonsense&snapshot");
    await lost.until({ type: "gap", reason: "bad_cursor" });
    await lost.until({ type: "subscribed", recovered: false });

    for (const [command, code] of [
      [{ type: "subscribe", channel: "cats", ref: 1 }, "unknown_channel"],
      [{ type: "subscribe", channel: "pets", old: true }, "already_subscribed"],
      [{ type: "unsubscribe", channel: "cats" }, "not_subscribed"],
      [{ type: "subscribe", channel: 3, ref: null }, "bad_message"],
      [{ type: "dance" }, "unknown_command"],
      [{ type: "auth", token: "x" }, "not_supported"],
    ] as const) {
      all.say(command);
      await all.until({ type: "error", code });
    }
    all.socket.send("{");
    await all.until({ type: "error", code: "bad_json" });
    all.socket.send(Buffer.from([1]), { binary: true });
    await all.until({ type: "error", code: "bad_message" });
    lost.say({ type: "unsubscribe", channel: "pets" });
    await lost.until({ type: "unsubscribed" });
    lost.say({ type: "subscribe", channel: "pets", filter: "wings=eq.2" });
    await lost.until({ type: "error", code: "bad_filter" });
    all.say({ type: "sync", cursor, ref: 4 });
    await all.until({ type: "synced", ref: 4 });
    all.say({ type: "sync", cursor: "1nonsense", ref: 5 });
    await all.until({ type: "error", code: "bad_cursor" });
    all.say({ type: "rows", channel: "pets", order: "name.desc", limit: 2, count: "exact", ref: 6 });
    await all.until({ type: "rows", last: true, ref: 6 });
    all.say({ type: "rows", channel: "pets", order: "wings", ref: 7 });
    await all.until({ type: "error", code: "bad_order", ref: 7 });
    all.say({ type: "ping", ref: 3 });
    await all.until({ type: "pong", ref: 3 });
    all.say({ type: "test", data: 1 });
    await all.until({ type: "test", data: 1 });

    await all.until({ type: "heartbeat" });
    server.admit(false);
    try {
      await all.until({ type: "error", code: "source_down" });
    } finally {
      server.admit(true);
    }
    await expect.poll(async () => (await fetch(`${server.url}/readyz`)).ok).toBe(true);
    all.say({ type: "unsubscribe", channel: "pets", ref: 2 });
    await all.until({ type: "unsubscribed" });

    const names = [all, some, again, lost].flatMap((talk) => talk.names());
    const ofTokens = ["authenticated", "token_expiring"];
    expect([...new Set(names)].sort()).toEqual(SAID.filter((name) => !ofTokens.includes(name)).sort());
    for (const talk of [all, some, again, lost]) talk.socket.close();
  });

  /** A path of the description with its examples in place of names. */
  const filled = (path: string, parameters: any[] = []) =>
    parameters.reduce((text, each) => text.replace(`{${each.name}}`, each.example), path);

  test.each(Object.keys(openapi.paths).filter((path) => openapi.paths[path].get))("answers %s as described", async (path) => {
    const { parameters = [], responses } = openapi.paths[path].get;
    const url = server.url + filled(path, parameters.map((each: any) => follow(openapi, each)));
    const answer = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    expect(Object.keys(responses)).toContain(String(answer.status));
    expect(answer.status).toBe(path.startsWith("/ws") ? 426 : 200);
    const place = `#/paths/${path.replaceAll("/", "~1")}/get/responses/${answer.status}`;
    const { content } = follow(openapi, at(openapi, place));
    const type = answer.headers.get("content-type")!;
    expect(Object.keys(content)).toContain(type);
    if (type === "text/event-stream") return answer.body!.cancel();
    const text = await answer.text();
    const schema = content[type].schema.$ref;
    if (schema) expect(wrong("openapi", schema, JSON.parse(text)), text).toEqual([]);
    if (path.slice(1, -5) in documents) expect(JSON.parse(text)).toEqual(documents[path.slice(1, -5)]);
  });

  test.each([
    ["/sse/cats", 404],
    ["/sse/%ff", 404],
    ["/sse/pets?fliter=owner=eq.1", 400],
    ["/sse/pets?filter=wings=eq.2", 400],
    ["/sse/user/1?snapshot", 400],
    ["/ws?since=1A", 400],
    ["/ws/cats", 404],
    ["/rows/cats", 404],
    ["/rows/pets?limit=0", 400],
    ["/rows/pets?order=wings", 400],
    ["/explain/x", 400],
  ])("refuses %s with %i", (path, status) => refuse(server, path, status));

  test("refuses a cursor that is too long for a path", () => {
    return refuse(server, `/ws/pets?since=${"1".repeat(20_000)}`, 431);
  });
});

/** Expects that a path is refused, as the description of its route says it may be. */
async function refuse(server: Server, path: string, status: number, headers: Record<string, string> = {}) {
  const answer = await fetch(server.url + path, { headers });
  await answer.body?.cancel();
  expect(answer.status).toBe(status);
  const plain = path.split("?")[0]!;
  const fits = (route: string) => new RegExp(`^${route.replace(/\{\w+\}/g, "[^/]+")}$`).test(plain);
  const { responses } = openapi.paths[Object.keys(openapi.paths).find(fits)!].get;
  expect(Object.keys(responses)).toContain(String(status));
  const described = Object.keys(follow(openapi, responses[status]).headers ?? {});
  for (const header of described) expect(answer.headers.get(header), header).toBeTruthy();
}

describeWhere(missing(), "a real server that checks tokens", () => {
  let server: Server;

  beforeAll(async () => {
    const policies =
      "rowcast.allow('pets', 'owner', 'owner=eq.{sub}'), rowcast.allow('pets', 'vet'), rowcast.allow('user/*', 'vet')";
    const limits = { ROWCAST_COMMANDS_PER_SECOND: "20", ROWCAST_MAX_SOCKETS_PER_USER: "1" };
    server = await Server.start({ tables: PETS, watch: `${WATCH}; select ${policies}`, env: { ...SECRET, ...limits } });
  });
  afterAll(() => server?.stop());

  const closeCodes = asyncapi["x-close-codes"].map(({ code }: any) => code);
  async function expectClosed(talk: Talk, code: number): Promise<void> {
    expect(await talk.closed).toBe(code);
    expect(closeCodes).toContain(code);
    talk.names();
  }

  test("obeys auth as described", () => obeys("auth", server, jwt({ sub: "2", role: "vet" })));

  test("says nothing that is not described", async () => {
    const talk = await Talk.open(server, "/ws/pets", jwt({ sub: "1", role: "owner" }, 3));
    await talk.until({ type: "subscribed" });
    await talk.until({ type: "token_expiring" });
    for (const token of ["forged", jwt({ sub: "2", role: "vet" })]) {
      talk.say({ type: "auth", token, ref: 1 });
      await talk.until({ type: "error", code: "unauthenticated" });
    }
    talk.say({ type: "auth", token: jwt({ sub: "1", role: "vet" }), ref: 2 });
    expect(await talk.until({ type: "authenticated" })).toMatchObject({ role: "vet", user_id: "1", ref: 2 });
    await talk.until({ type: "gap", reason: "policy" });
    await talk.until({ type: "subscribed" });
    talk.say({ type: "subscribe", channel: "user/2" });
    await talk.until({ type: "subscribed", channel: "user/2" });
    talk.say({ type: "auth", token: jwt({ sub: "1", role: "guest" }) });
    await talk.until({ type: "error", code: "forbidden", channel: "pets" });
    await expectClosed(talk, 4403);
  });

  test("says how long a client is to wait, and then goodbye", async () => {
    const talk = await Talk.open(server, "/ws", jwt({ role: "vet" }));
    for (let count = 0; count < 300; count++) talk.say({ type: "ping", ref: count });
    await talk.until({ type: "error", code: "rate_limited" });
    await expectClosed(talk, 4429);
  });

  test.each([
    ["/ws/pets", undefined, 4401],
    ["/ws/pets", "guest", 4403],
    ["/ws/cats", "vet", 4403],
    ["/ws/pets?fliter", "vet", 4400],
  ])("refuses %s for %s with %i", async (path, role, code) => {
    await expectClosed(await Talk.open(server, path, role && jwt({ role })), code);
  });

  const AS = (claims: object) => ({ authorization: `Bearer ${jwt(claims)}` });
  test("refuses with the statuses that are described", async () => {
    for (const path of ["/websocket/status", "/websocket/behind", "/websocket/hour", "/websocket/database", "/metrics", "/explain/1"]) {
      await refuse(server, path, 401);
      await refuse(server, path, 401, AS({ role: "vet" }));
      expect((await fetch(server.url + path, { headers: AS({ role: "admin" }) })).status, path).toBe(200);
    }
    for (const path of ["/", "/docs", "/docs.js", "/openapi.json", "/asyncapi.json"]) {
      expect((await fetch(server.url + path)).ok, path).toBe(true);
    }
    await refuse(server, "/sse/pets", 401);
    await refuse(server, "/sse/pets?token=forged", 401);
    await refuse(server, "/sse/pets", 403, AS({ role: "guest" }));
    await refuse(server, "/sse/pets", 403, { ...AS({ role: "vet" }), origin: "https://elsewhere.example" });
    const held = await Talk.open(server, "/ws/pets", jwt({ sub: "7", role: "vet" }));
    await held.until({ type: "subscribed" });
    // to a status that says so a browser would never come back
    const later = await fetch(`${server.url}/sse/pets`, { headers: AS({ sub: "7", role: "vet" }) });
    expect(later.status).toBe(200);
    expect(await later.text()).toMatch(/^retry: \d+\n\nevent: close\ndata: \{"code":4503,/);
    held.socket.close();
  });
});
