/** Against a real server, which is free to differ from the scripted one. */
import { execFileSync } from "node:child_process";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client, type Collection, type RowcastError } from "../src/index.js";
import { bundle } from "./bundle.js";
import { Front } from "./front.js";
import { Queue } from "./queue.js";
import type { Pet } from "./pages/pet.js";
import { insertPets, missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

describeWhere(missing(), "a real server", () => {
  let server: Server;
  let front: Front;
  let client: Client<{ pets: Pet; [other: string]: any }>;

  beforeAll(async () => {
    server = await Server.start();
    front = new Front(() => server.port);
  });
  afterAll(() => server?.stop());

  beforeEach(async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.02); // short pauses
    await server.refill(0);
    await front.open();
    client = connect(front.url, { WebSocket });
  });
  afterEach(async () => {
    client.close();
    await front.cut();
  });

  /** Waits until a collection has the rows of the table, or those for which `where` holds. */
  async function untilEqual(pets: Collection<Pet>, where?: string): Promise<void> {
    const wanted = JSON.stringify(server.pets(where));
    const sorted = () => [...pets.values()].sort((one, other) => one.pet_id - other.pet_id);
    await new Promise<void>((resolve) => {
      const check = () => JSON.stringify(sorted()) === wanted && resolve();
      pets.on("change", check);
      check();
    });
  }

  /** Watches a table. Returns when the server knows its channel. */
  async function watch(table: string): Promise<void> {
    server.sql(`select rowcast.watch('public.${table}')`);
    await expect.poll(async () => (await server.status()).channels).toHaveProperty(table);
  }

  /** A subscription, and the ids that its handler was called with. */
  function listen() {
    const before = server.changesAfter(0).at(-1)!;
    const ids: number[] = [];
    const came = new Queue<number>();
    const ready = new Queue<boolean>();
    const subscription = client.subscribe(
      "pets",
      {},
      {
        change: ({ id }) => (ids.push(id), came.push(id)),
        ready: ({ recovered }) => ready.push(recovered),
        resync: (reason) => expect.unreachable(reason),
      },
    );
    return { subscription, before, ids, came, ready };
  }

  /** Expects that the handler was called with each change since, once and in order. */
  async function expectEach({ before, ids, came }: ReturnType<typeof listen>): Promise<void> {
    server.mark();
    const wanted = server.changesAfter(before);
    while (!ids.includes(wanted.at(-1)!)) await came.next();
    expect(ids).toEqual(wanted);
  }

  const add = (from: number, to: number) => server.sql(insertPets(from, to));

  test("rows that are told less of are the rows of the table all the same", async () => {
    await server.refill(200);
    const every = client.collection("pets", { key: "pet_id" });
    const latest = client.collection("pets", { key: "pet_id", latest: true, every: 300 });
    const some = client.collection("pets", { key: "pet_id", latest: true, every: 50, filter: "pet_id=lt.100" });
    const changed = client.collection("pets", { key: "pet_id", changed: true });
    let [tellings, latestTellings] = [0, 0];
    every.on("change", () => tellings++);
    latest.on("change", () => latestTellings++);
    await Promise.all([every.ready, latest.ready, some.ready, changed.ready]);
    for (let n = 0; n < 60; n++) {
      server.sql(`update pets set name = 'n${n}' where pet_id in (${n + 1}, 7, ${150 - n});
        delete from pets where pet_id = ${n * 3}; insert into pets (pet_id, name) values (${1000 + n}, 'new')`);
      if (n % 15 === 5) server.sql(`update pets set pet_id = pet_id + 5000 where pet_id in (${n + 2}, ${n + 70})`);
      if (n % 20 === 10) {
        await front.cut(); // while something waits
        await front.open();
      }
      await new Promise(setImmediate);
    }
    await client.sync(server.sql("select rowcast.cursor()").trim());
    // what waited for its time is shown with it
    expect([...latest.values()].sort((one, other) => one.pet_id - other.pet_id)).toEqual(server.pets());
    for (const pets of [every, changed]) await untilEqual(pets);
    await untilEqual(some, "pet_id < 100");
    expect(latestTellings).toBeLessThan(tellings);
  });

  test("rows whose keys JSON.parse would round stay two, with a parser that keeps all digits", async () => {
    const parse = (text: string) => JSON.parse(text.replace(/("pet_id":)(\d{16,})/g, '$1"$2"'));
    const exact = connect<{ pets: Pet }>(front.url, { WebSocket, parse });
    const errors: RowcastError[] = [];
    const pets = exact.collection("pets", { key: "pet_id" });
    pets.on("error", (error) => errors.push(error));
    await pets.ready;
    server.sql("insert into pets (pet_id) values (9007199254740992), (9007199254740993)");
    await vi.waitFor(() => expect([...pets.keys()]).toEqual(["9007199254740992", "9007199254740993"]), 30_000);
    server.sql("delete from pets where pet_id = 9007199254740993");
    await vi.waitFor(() => expect([...pets.keys()]).toEqual(["9007199254740992"]), 30_000);
    expect(errors).toEqual([]);
    exact.close();
  });

  test("a collection follows every kind of change", async () => {
    add(1, 2000); // a snapshot of several messages
    const pets = client.collection("pets", { key: "pet_id" });
    await pets.ready;
    // the rows may be of a second ago, and what has changed since follows
    await untilEqual(pets);
    expect(pets.size).toBe(2000);
    for (const statement of [
      "update pets set name = 'Luna' where pet_id = 1",
      "update pets set pet_id = 0 where pet_id = 1",
      "delete from pets where pet_id between 3 and 20",
      "insert into pets values (3, 1, 'Rex'); update pets set name = 'King' where pet_id = 3",
      "delete from pets where pet_id = 3; insert into pets values (3, 2, 'Mia')",
      "truncate pets; insert into pets values (1, 1, 'Luna')",
      "truncate pets",
    ]) {
      server.sql(statement);
      await untilEqual(pets);
    }
  });

  test("a page that its server has rendered goes on from there", async () => {
    add(1, 9);
    const [cursor, rows] = server.sql("select rowcast.cursor(), json_agg(p) from pets p").split("|") as [string, string];
    server.sql("update pets set name = 'Luna' where pet_id = 1; delete from pets where pet_id = 2");
    const sent: any[] = [];
    class Logged extends WebSocket {
      override send(text: any): void {
        sent.push(JSON.parse(text));
        super.send(text);
      }
    }
    const rendered = connect<{ pets: Pet }>(front.url, { WebSocket: Logged });
    const pets = rendered.collection("pets", { key: "pet_id", initial: { cursor, rows: JSON.parse(rows) } });
    expect(pets.size).toBe(9);
    const differences: number[] = [];
    pets.on("change", ({ set, removed }) => differences.push(set.size, removed.size));
    await pets.ready;
    await untilEqual(pets);
    expect(differences).toEqual([1, 1]);
    expect(sent[0]).toMatchObject({ since: cursor, snapshot: true });
    rendered.close();
  });

  test("a list of several pages that is broken off goes on behind the last one", async () => {
    add(1, 25_000);
    const sent: any[] = [];
    const sizes: number[] = [];
    let breaks = 0;
    class Broken extends WebSocket {
      constructor(...options: ConstructorParameters<typeof WebSocket>) {
        super(...options);
        this.on("message", (data) => {
          const { type, last, cursor, rows } = JSON.parse(String(data));
          if (type !== "snapshot") return;
          sizes.push(rows.length);
          if (last || !cursor || breaks === 2) return;
          breaks++;
          server.sql(`update pets set name = 'x' where pet_id % 1000 = ${breaks}; delete from pets where pet_id = ${breaks * 100}`);
          this.terminate();
        });
      }
      override send(text: any): void {
        sent.push(JSON.parse(text));
        super.send(text);
      }
    }
    const other = connect<{ pets: Pet }>(front.url, { WebSocket: Broken });
    // rows that nobody else asked for a moment ago: those would be given out again, with the changes since
    const pets = other.collection("pets", { key: "pet_id", filter: "pet_id=gt.0" });
    await pets.ready;
    const told = (rows: Pet[]) => [rows.length, rows.reduce((sum, { pet_id }) => sum + pet_id, 0), rows.filter(({ name }) => name === "x").length];
    const wanted = server.sql("select count(*), sum(pet_id), count(*) filter (where name = 'x') from pets").split("|").map(Number);
    await vi.waitFor(() => expect(told([...pets.values()])).toEqual(wanted), 30_000);
    expect(sent.map(({ partial }) => partial)).toEqual([true, true, true]);
    // no page came twice
    expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(25_100);
    other.close();
  });

  test("keys that pass through each other", async () => {
    server.sql("create table numbers (n int primary key deferrable, t text)");
    await watch("numbers");
    server.sql("insert into numbers select n, chr(96 + n) from generate_series(1, 5) n");
    const numbers = client.collection("numbers", { key: "n" });
    await numbers.ready;
    const next = () => new Promise((resolve) => numbers.on("change", () => resolve(undefined)));
    for (const statement of [
      "update numbers set n = n + 1",
      "update numbers set n = n - 1",
      "update numbers set n = 6 - n",
      "update numbers set t = 'same'; update numbers set n = n + 1",
    ]) {
      server.sql(statement);
      const wanted = server.sql("select string_agg(n || t, ' ' order by n) from numbers");
      const sorted = () => [...numbers.values()].map(({ n, t }) => n + t).sort().join(" ");
      while (sorted() !== wanted) await next();
    }
  });

  test("a filter: rows enter and leave", async () => {
    add(1, 9);
    const pets = client.collection("pets", { key: "pet_id", filter: "user_id=eq.1" });
    await untilEqual(pets, "user_id = 1");
    server.sql("update pets set user_id = 1 where pet_id = 2; update pets set user_id = 2 where pet_id = 1");
    await untilEqual(pets, "user_id = 1");
    server.sql("update pets set user_id = null, pet_id = 10 where pet_id = 2");
    await untilEqual(pets, "user_id = 1");
  });

  test("what JSON has no number for comes as text, and a column of text has all digits", async () => {
    server.sql(`create table prices (id bigint primary key, ratio float8, total numeric,
      id_text text generated always as (id::text) stored, total_text text generated always as (total::text) stored)`);
    await watch("prices");
    const [id_text, total_text] = ["9007199254740993", "12345678901234567.8901"];
    const prices = client.collection("prices", { key: "id_text" });
    await prices.ready;
    const changed = new Promise((resolve) => prices.on("change", resolve));
    server.sql(`insert into prices values (1, 'Infinity', 'NaN'), (${id_text}, '-Infinity', ${total_text})`);
    await changed;
    const other = client.collection("prices", { key: "id_text", columns: ["id_text", "ratio", "total", "total_text"] });
    await other.ready; // a snapshot says it as a change does
    for (const rows of [prices, other]) {
      expect(rows.get("1")).toMatchObject({ ratio: "Infinity", total: "NaN", total_text: "NaN" });
      expect(rows.get(id_text)).toMatchObject({ id_text, ratio: "-Infinity", total_text });
      expect(String(rows.get(id_text).total)).not.toBe(total_text);
    }
  });

  test("what the server refuses ends a subscription and no other", async () => {
    const pets = client.subscribe("pets");
    await pets.ready;
    const refused = [
      client.subscribe("cats"),
      client.subscribe("dogs", { since: "1A", snapshot: true }),
      // @ts-expect-error the compiler knows that there is no such column
      client.collection("pets", { key: "pet_id", filter: "species=eq.cat" }),
    ];
    const codes = refused.map(({ ready }) => ready.then(String, ({ code }: RowcastError) => code));
    expect(await Promise.all(codes)).toEqual(["unknown_channel", "unknown_channel", "bad_filter"]);
    add(1, 1);
    expect((await pets[Symbol.asyncIterator]().next()).value).toMatchObject({ action: "created" });
  });

  test("a channel that goes away and comes back goes on, and concerns no other", { timeout: 120_000 }, async () => {
    server.sql("create table owners (owner_id int primary key)");
    await watch("owners");
    const lost = new Queue<RowcastError>();
    const owners = client.collection("owners", { key: "owner_id" });
    owners.on("error", (error) => lost.push(error));
    const heard = listen();
    await Promise.all([owners.ready, heard.subscription.ready]);
    add(1, 1);
    server.sql("select rowcast.unwatch('public.owners')");
    add(2, 2);
    expect(await lost.next()).toMatchObject({ code: "unknown_channel", final: false });
    await expectEach(heard);
    server.sql("insert into owners values (5)");
    await watch("owners");
    // it is asked for each ten seconds
    await vi.waitFor(() => expect([...owners.keys()]).toEqual([5]), { timeout: 90_000 });
    server.sql("insert into owners values (6)");
    await vi.waitFor(() => expect([...owners.keys()]).toEqual([5, 6]), 30_000);
    owners.close();
  });

  test("notifications of a user, also those that were missed", async () => {
    const told = new Queue<string>();
    await client.notifications<Pet>(
      1,
      {},
      { change: ({ notification_type, data }) => told.push(`${notification_type} ${data.name}`) },
    ).ready;
    server.sql("insert into pets values (1, 1, 'Luna'), (2, 2, 'Rex')");
    expect(await told.next()).toBe("pet_created Luna");
    await front.cut();
    server.sql("insert into pets values (3, 1, 'Mia'), (4, 2, 'Ivy')");
    await front.open();
    expect(await told.next()).toBe("pet_created Mia");
    server.sql("delete from pets where pet_id = 1");
    expect(await told.next()).toBe("pet_deleted Luna");
  });

  test("a connection that is cut: nothing is missing, nothing comes twice", async () => {
    const heard = listen();
    const pets = client.collection("pets", { key: "pet_id" });
    await Promise.all([heard.subscription.ready, pets.ready]);
    add(1, 10);
    await untilEqual(pets);
    await front.cut();
    add(11, 20);
    server.sql("delete from pets where pet_id < 5");
    await front.open();
    await untilEqual(pets);
    await expectEach(heard);
    expect([await heard.ready.next(), await heard.ready.next()]).toEqual([false, true]);
  });

  test("a connection that is cut inside a transaction, several times", async () => {
    const heard = listen();
    const pets = client.collection("pets", { key: "pet_id" });
    await Promise.all([heard.subscription.ready, pets.ready]);
    add(1, 20_000);
    for (const least of [1, 2_000, 9_000]) {
      while (heard.ids.length < least) await heard.came.next();
      await front.cut();
      await front.open();
    }
    await untilEqual(pets);
    await expectEach(heard);
  });

  test.each(["SIGKILL", "SIGTERM"] as const)("a server that ends by %s and comes back", async (signal) => {
    const heard = listen();
    const pets = client.collection("pets", { key: "pet_id" });
    await Promise.all([heard.subscription.ready, pets.ready]);
    add(1, 10);
    await untilEqual(pets);
    await server.end(signal);
    server.sql("update pets set name = 'away'");
    await server.serve();
    await untilEqual(pets);
    await expectEach(heard);
  });

  test("a place that cannot be honoured", async () => {
    add(1, 3);
    const log = new Queue<string>();
    client.subscribe(
      "pets",
      { since: "1nonsense", snapshot: true },
      {
        resync: (reason) => log.push(reason),
        snapshot: (rows) => log.push(`${rows.length} rows`),
        ready: ({ recovered }) => log.push(`recovered: ${recovered}`),
      },
    );
    for (const expected of ["bad_cursor", "3 rows", "recovered: false"]) expect(await log.next()).toBe(expected);
  });

  test("a gap in the stream: the rows are read anew, and those that are known stay until then", async () => {
    add(1, 3);
    const pets = client.collection("pets", { key: "pet_id" });
    await untilEqual(pets);
    const sizes: number[] = [];
    const changed = new Promise((resolve) => {
      pets.on("change", ({ set, removed }) => {
        sizes.push(pets.size);
        resolve([[...set.keys()], [...removed.keys()]]);
      });
    });
    server.sql("alter table pets disable trigger user");
    server.sql("delete from pets where pet_id = 2; insert into pets values (4, 1, 'Ivy'), (5, 1, 'Rex')");
    try {
      expect(await changed).toEqual([[4, 5], [2]]);
      expect(sizes).toEqual([4]);
    } finally {
      server.sql("alter table pets enable trigger user");
    }
  });

  test("who leaves and comes back in the same turn hears everything once", async () => {
    const heard = listen();
    await heard.subscription.ready;
    add(1, 50);
    await expectEach(heard);
    const since = heard.subscription.cursor!;
    heard.subscription.close();
    add(101, 150);
    const wanted = server.changesAfter(heard.ids.at(-1)!);
    for (let round = 0; round < 50; round++) {
      const [first, second] = [[], []] as [number[], number[]];
      const one = client.subscribe("pets", { since }, { change: ({ id }) => first.push(id) });
      // now while it is on its way, now when it has arrived
      if (round % 2) await one.ready;
      one.close();
      const two = client.subscribe("pets", { since }, { change: ({ id }) => second.push(id) });
      await two.ready;
      two.close();
      expect(second).toEqual(wanted);
      expect(first).toEqual(round % 2 ? wanted : []);
    }
  });

  test("a process ends when it has closed its client", async () => {
    const { cursor } = await client.subscribe("pets").ready;
    add(1, 1);
    const program = await bundle("leaver.ts");
    const node = ["--input-type=module", "-", server.url, cursor];
    expect(execFileSync(process.execPath, node, { input: program, encoding: "utf8", timeout: 60_000 })).toBe("pet 1\n");
  });
});
