/** Collections of TanStack DB that are kept in SQLite between two pages, the real ones, kept by a real server. */
import { createCollection, createLiveQueryCollection, eq } from "@tanstack/db";
import { createSQLiteCorePersistenceAdapter, persistedCollectionOptions, SingleProcessCoordinator, type SQLiteDriver } from "@tanstack/db-sqlite-persistence-core";
import initSqlJs, { type Database } from "sql.js";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client } from "../src/index.js";
import { rowcastCollectionOptions } from "../src/tanstack.js";
import type { Pet } from "./pages/pet.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

/** SQLite as the adapter of TanStack DB wants it: its transactions come one after the other. */
class Driver implements SQLiteDriver {
  #last: Promise<unknown> = Promise.resolve();
  constructor(readonly database: Database) {}

  async exec(sql: string): Promise<void> {
    this.database.exec(sql);
  }
  async run(sql: string, parameters: readonly unknown[] = []): Promise<void> {
    this.database.run(sql, parameters as any);
  }
  async query<Row>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    const statement = this.database.prepare(sql, parameters as any);
    const rows: Row[] = [];
    while (statement.step()) rows.push(statement.getAsObject() as Row);
    statement.free();
    return rows;
  }
  transaction<Result>(run: (driver: SQLiteDriver) => Promise<Result>): Promise<Result> {
    const running = this.#last.then(async () => {
      this.database.run("begin");
      try {
        const result = await run(this);
        this.database.run("commit");
        return result;
      } catch (error) {
        this.database.run("rollback");
        throw error;
      }
    });
    this.#last = running.catch(() => {});
    return running;
  }
}

describeWhere(missing(), "TanStack DB with persistence", () => {
  let server: Server;
  let database: Database;
  let client: Client<{ pets: Pet }>;
  /** commands that the page has sent */
  let asked: any[];
  /** rows that it was sent besides changes */
  let rows: number;

  beforeAll(async () => {
    server = await Server.start();
  });
  afterAll(() => server?.stop());
  beforeEach(async () => {
    server.sql("truncate pets; insert into pets select n, n % 3, 'pet ' || n from generate_series(1, 50) n");
    database = new (await initSqlJs()).Database();
  });
  afterEach(() => client.close());

  /** The collection of a page that has just been opened. */
  function open(options: { syncMode?: "eager" | "on-demand" | "progressive"; filter?: "user_id=eq.1"; url?: string } = {}) {
    const { url = server.url, ...others } = options;
    asked = [];
    rows = 0;
    class Logged extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        this.on("message", (text) => (rows += JSON.parse(String(text)).rows?.length ?? 0));
      }
      override send(text: any): void {
        asked.push(JSON.parse(text));
        super.send(text);
      }
    }
    client = connect(url, { WebSocket: Logged });
    const adapter = createSQLiteCorePersistenceAdapter({ driver: new Driver(database) });
    const persistence = { adapter, coordinator: new SingleProcessCoordinator() };
    const rowcast: any = rowcastCollectionOptions(client, "pets", { key: "pet_id", ...others });
    return createCollection(persistedCollectionOptions({ ...rowcast, id: "pets", persistence }) as any);
  }
  type Pets = ReturnType<typeof open>;

  const shown = (pets: { toArray: unknown[] }) =>
    (pets.toArray as Pet[]).map(({ pet_id, user_id, name }) => ({ pet_id, user_id, name })).sort((one, other) => one.pet_id - other.pet_id);

  /** The page is closed, once SQLite has what it shows. */
  async function close(pets: Pets): Promise<void> {
    const [found] = database.exec("select name from sqlite_master where name like 'c\\_%' escape '\\'");
    const kept = () => database.exec(`select count(*) from "${found!.values[0]![0]}"`)[0]!.values[0]![0];
    await expect.poll(kept).toBe(pets.size);
    await pets.cleanup();
    client.close();
  }

  const CHANGES = "delete from pets where pet_id % 5 = 0; update pets set name = 'new' where pet_id < 9; insert into pets values (100, 1, 'late')";

  test("rows are there before the server is asked, and only what has changed since is loaded", async () => {
    const pets = open();
    await pets.preload();
    expect(shown(pets)).toEqual(server.pets());
    expect(rows).toBe(50);
    await close(pets);
    // nobody is listening there
    const offline = open({ url: "http://127.0.0.1:1" });
    offline.startSyncImmediate();
    await expect.poll(() => shown(offline)).toEqual(server.pets());
    await close(offline);
    server.sql(CHANGES);
    for (let page = 0; page < 3; page++) {
      const again = open();
      await again.preload();
      expect(shown(again)).toEqual(server.pets());
      expect([asked[0].since !== undefined, rows]).toEqual([true, 0]);
      server.sql(`delete from pets where pet_id = ${1 + page}`);
      await expect.poll(() => shown(again)).toEqual(server.pets());
      await close(again);
    }
  });

  test("where the changes since are not kept, all rows are loaded, and those that have gone are gone", async () => {
    const pets = open();
    await pets.preload();
    await close(pets);
    server.sql("alter table pets disable trigger user");
    server.sql(CHANGES);
    server.sql("alter table pets enable trigger user; select rowcast.unwatch('public.pets')");
    server.sql("select rowcast.watch('public.pets')");
    const again = open();
    await again.preload();
    expect(shown(again)).toEqual(server.pets());
    await close(again);
  });

  test("rows of another filter are not taken for those of this one", async () => {
    const pets = open();
    await pets.preload();
    await close(pets);
    server.sql(CHANGES);
    for (const filter of ["user_id=eq.1", undefined, "user_id=eq.1"] as const) {
      const again = open(filter ? { filter } : {});
      await again.preload();
      await expect.poll(() => shown(again)).toEqual(server.pets(filter ? "user_id = 1" : "true"));
      expect(asked[0].since).toBe(undefined);
      await close(again);
    }
  });

  test("progressively, what a query asks for is shown and then all", async () => {
    for (let page = 0; page < 3; page++) {
      const pets = open({ syncMode: "progressive" });
      const query = createLiveQueryCollection((q) => q.from({ pet: pets }).where(({ pet }: any) => eq(pet.user_id, 1)));
      await query.preload();
      await expect.poll(() => shown(query as any)).toEqual(server.pets("user_id = 1"));
      await expect.poll(() => shown(pets)).toEqual(server.pets());
      server.sql(`delete from pets where pet_id between ${page * 10} and ${page * 10 + 6}`);
      await expect.poll(() => shown(pets)).toEqual(server.pets());
      await query.cleanup();
      await close(pets);
      server.sql(`delete from pets where pet_id between ${page * 10 + 7} and ${page * 10 + 9}`);
    }
  });

  test("on demand, a row that has gone since is not shown once the server has answered", async () => {
    for (let page = 0; page < 3; page++) {
      const pets = open({ syncMode: "on-demand" });
      const query = createLiveQueryCollection((q) => q.from({ pet: pets }).where(({ pet }: any) => eq(pet.user_id, 1)));
      await query.preload();
      await expect.poll(() => shown(query as any)).toEqual(server.pets("user_id = 1"));
      expect(asked.every(({ since }) => since === undefined)).toBe(true);
      await query.cleanup();
      await pets.cleanup();
      client.close();
      server.sql(`delete from pets where pet_id between ${page * 10} and ${page * 10 + 5}; update pets set user_id = 2 where pet_id = ${page * 10 + 7}`);
    }
  });
});
