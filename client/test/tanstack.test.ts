/** Collections of TanStack DB, the real one, kept by a real server. */
import { and, BTreeIndex, createCollection, createLiveQueryCollection, eq, gt, gte, ilike, inArray, isNull, like, lt, not, or, upper } from "@tanstack/db";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client } from "../src/index.js";
import { rowcastCollectionOptions } from "../src/tanstack.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

interface Channels {
  clinics: { clinic_id: number; name: string };
  owners: { owner_id: number; clinic_id: number; name: string };
  pets: { pet_id: number; owner_id: number; name: string; weight: number | null; born: string; tame?: boolean | null };
}

const TABLES = `
  create table clinics (clinic_id int primary key, name text not null);
  create table owners (owner_id int primary key, clinic_id int not null, name text not null);
  create table pets (pet_id int primary key, owner_id int not null, name text not null, weight numeric, born timestamptz not null,
    tame boolean);
  create index on pets (born, pet_id);
  create function fill() returns void language sql as $$
    truncate clinics, owners, pets;
    insert into clinics select n, 'clinic ' || n from generate_series(1, 3) n;
    insert into owners select n, 1 + n % 3, 'owner ' || n from generate_series(1, 30) n;
    insert into pets (pet_id, owner_id, name, weight, born, tame) select n, 1 + n % 30, (array['Luna', 'Rex', 'a,b', 'x(y)', '100%', 'sta*r', '"q"'])[1 + n % 7],
      case when n % 11 > 0 then n % 40 end, timestamptz '2024-01-15 10:30:00.5+00' + n / 3 * interval '1 hour',
      case when n % 5 > 0 then n % 2 = 0 end from generate_series(1, 300) n;
  $$;
  select fill()`;
const WATCH = "select rowcast.watch('public.clinics'), rowcast.watch('public.owners'), rowcast.watch('public.pets')";

describeWhere(missing(), "TanStack DB", () => {
  let server: Server;
  let client: Client<Channels>;
  /** commands that were sent */
  let sent: any[];

  beforeAll(async () => {
    server = await Server.start({ tables: TABLES, watch: WATCH, env: {} });
  });
  afterAll(() => server?.stop());

  beforeEach(() => {
    server.sql("select fill()");
    sent = [];
    class Logged extends WebSocket {
      override send(text: any): void {
        sent.push(JSON.parse(text));
        super.send(text);
      }
    }
    client = connect<Channels>(server.url, { WebSocket: Logged });
  });
  afterEach(() => client.close());

  const rowsOf = (sql: string): any[] => JSON.parse(server.sql(`select coalesce(json_agg(r), '[]') from (${sql}) r`));
  const pets = (syncMode: "eager" | "on-demand" | "progressive") =>
    createCollection(rowcastCollectionOptions(client, "pets", { key: "pet_id", syncMode }));
  /** TanStack DB asks for rows page by page where a collection has indexes. */
  const indexed = () =>
    createCollection({
      ...rowcastCollectionOptions(client, "pets", { key: "pet_id", syncMode: "on-demand" }),
      ...{ autoIndex: "eager", defaultIndexType: BTreeIndex },
    });
  const filters = () => sent.filter(({ type }) => type === "subscribe").map(({ filter }) => filter);

  test("a join over three tables follows all of them", async () => {
    const all = pets("eager");
    const owners = createCollection(rowcastCollectionOptions(client, "owners", { key: "owner_id" }));
    const clinics = createCollection(rowcastCollectionOptions(client, "clinics", { key: "clinic_id" }));
    const joined = createLiveQueryCollection((q) =>
      q
        .from({ pet: all })
        .join({ owner: owners }, ({ pet, owner }) => eq(pet.owner_id, owner.owner_id), "inner")
        .join({ clinic: clinics }, ({ owner, clinic }) => eq(owner.clinic_id, clinic.clinic_id), "inner")
        .where(({ clinic }) => eq(clinic.clinic_id, 2))
        .orderBy(({ pet }) => pet.pet_id)
        .select(({ pet, owner, clinic }) => ({ pet_id: pet.pet_id, pet: pet.name, owner: owner.name, clinic: clinic.name })),
    );
    await joined.preload();
    const wanted = () =>
      rowsOf(`select pet_id, p.name as pet, o.name as owner, c.name as clinic from pets p join owners o using (owner_id)
        join clinics c using (clinic_id) where clinic_id = 2 order by pet_id`);
    const shown = () => joined.toArray.map(({ pet_id, pet, owner, clinic }) => ({ pet_id, pet, owner, clinic }));
    expect(shown()).toEqual(wanted());
    for (const statement of [
      "update owners set clinic_id = 2 where owner_id < 9; update clinics set name = 'the second' where clinic_id = 2",
      "delete from pets where pet_id % 4 = 0; update pets set owner_id = 7, name = 'moved' where pet_id < 30",
      "update pets set pet_id = pet_id + 1000 where pet_id < 50; insert into pets values (5, 7, 'new', 1, now())",
      "truncate pets",
      "insert into pets values (5, 7, 'last', 1, now())",
    ]) {
      server.sql(statement);
      await vi.waitFor(() => expect(shown()).toEqual(wanted()), 30_000);
    }
  });

  test("what was written optimistically stays until the rows of its transaction have come", async () => {
    const seen: string[] = [];
    const { utils, ...options } = rowcastCollectionOptions(client, "pets", {
      key: "pet_id",
      onUpdate: async ({ transaction }) => {
        const [{ key, changes }] = transaction.mutations as any;
        const tx = await server.write(`update pets set name = upper('${changes.name}') where pet_id = ${key} returning pg_current_xact_id()`);
        await utils.awaitTxId(tx);
        seen.push("settled");
      },
      onInsert: async ({ transaction }) => {
        const { pet_id, name } = transaction.mutations[0].modified;
        await server.write(`insert into pets values (${pet_id}, 1, '${name}', null, now())`);
        await utils.awaitCursor(await server.write("select rowcast.cursor()"));
      },
    });
    const all = createCollection({ utils, ...options });
    await all.preload();
    // the rows may be those of a second ago, and what was written since follows
    await vi.waitFor(() => expect(all.has(7)).toBe(true), 30_000);
    const initial = { includeInitialState: true };
    all.subscribeChanges((changes) => seen.push(...changes.map(({ type, value }) => `${type} ${value.name}`)), initial);
    seen.length = 0;
    const updating = all.update(7, (draft) => void (draft.name = "mia"));
    expect(all.get(7)?.name).toBe("mia");
    await updating.isPersisted.promise;
    // no moment between showed the old name again
    expect(seen).toEqual(["update mia", "settled", "update MIA"]);
    const inserting = all.insert({ pet_id: 900, owner_id: 1, name: "ivy", weight: null, born: "2024-01-15T10:30:00+00:00" });
    await inserting.isPersisted.promise;
    expect(all.get(900)?.born).toBe(rowsOf("select born from pets where pet_id = 900")[0].born);
    expect(seen.filter((each) => each.startsWith("delete"))).toEqual([]);
    // of a transaction that changed nothing here nothing comes
    const other = server.sql("update owners set name = 'other' where owner_id = 1 returning pg_current_xact_id()");
    await expect(utils.awaitTxId(other, 300)).rejects.toMatchObject({ code: "no_transaction" });
    // one that has come before is known
    await utils.awaitTxId(server.sql("update pets set name = 'x' where pet_id = 1 returning pg_current_xact_id()"));
    await vi.waitFor(() => expect(all.get(1)?.name).toBe("x"), 30_000);
    await expect(utils.awaitCursor("nonsense")).rejects.toMatchObject({ code: "bad_cursor" });
  });

  test("a transaction is one change of the collection", async () => {
    const all = pets("eager");
    await all.preload();
    const changes: number[] = [];
    all.subscribeChanges((batch) => changes.push(batch.length));
    server.sql("update pets set weight = 99 where pet_id <= 50");
    await vi.waitFor(() => expect(all.get(50)?.weight).toBe(99), 30_000);
    expect(changes).toEqual([50]);
  });

  test("what the server refuses is the collection's error", async () => {
    const none = createCollection(rowcastCollectionOptions(client as Client<any>, "nothing", { key: "id" }));
    await expect(none.preload()).rejects.toMatchObject({ code: "unknown_channel" });
    expect(none.status).toBe("error");
  });

  test.each<[string, (pet: any) => any, string, unknown]>([
    ["equal", (pet) => eq(pet.owner_id, 7), "owner_id = 7", ["owner_id=eq.7"]],
    ["and", (pet) => and(gt(pet.pet_id, 20), lt(pet.pet_id, 40), eq(pet.name, "a,b")), "pet_id > 20 and pet_id < 40 and name = 'a,b'",
      ["pet_id=gt.20", "pet_id=lt.40", "name=eq.a,b"]],
    ["or", (pet) => or(eq(pet.name, "x(y)"), and(gte(pet.weight, 39), not(eq(pet.name, '"q"')))),
      `name = 'x(y)' or (weight >= 39 and name <> '"q"')`, ['or=(name.eq."x(y)",and(weight.gte."39",name.not.eq."\\"q\\""))']],
    ["not", (pet) => not(or(gt(pet.pet_id, 10), isNull(pet.weight))), "not (pet_id > 10 or weight is null)",
      ['not.or=(pet_id.gt."10",weight.is.null)']],
    ["null", (pet) => isNull(pet.weight), "weight is null", ["weight=is.null"]],
    ["in", (pet) => inArray(pet.name, ["a,b", '"q"', "none"]), `name in ('a,b', '"q"')`, ['name=in.("a,b","\\"q\\"","none")']],
    ["like", (pet) => like(pet.name, "100%"), "name like '100%'", ["name=like.100%"]],
    ["ilike", (pet) => ilike(pet.name, "STA*%"), "name ilike 'STA*%'", ["name=ilike.STA\\*%"]],
    ["a time", (pet) => lt(pet.born, new Date("2024-01-15T15:30:00.5Z").toISOString()), "born < '2024-01-15T15:30:00.5Z'", ["born=lt.2024-01-15T15:30:00.500Z"]],
  ])("on demand, %s: only what a query asks for is followed", async (_, where, sql, filter) => {
    const some = pets("on-demand");
    const query = createLiveQueryCollection((q) => q.from({ pet: some }).where(({ pet }) => where(pet)).select(({ pet }) => ({ pet_id: pet.pet_id })));
    await query.preload();
    const wanted = () => rowsOf(`select pet_id from pets where ${sql} order by pet_id`).map(({ pet_id }) => pet_id);
    const shown = () => query.toArray.map(({ pet_id }) => pet_id).sort((one, other) => one - other);
    expect(shown()).toEqual(wanted());
    expect(shown().length).toBeGreaterThan(0);
    expect(filters()).toEqual([filter]);
    expect(some.size).toBe(wanted().length);
    server.sql("update pets set weight = 39 - pet_id % 3, owner_id = 7 - pet_id % 2 where pet_id < 50; delete from pets where pet_id % 5 = 0");
    await vi.waitFor(() => expect(shown()).toEqual(wanted()), 30_000);
    await query.cleanup();
    await expect.poll(() => sent.at(-1).type).toBe("unsubscribe");
  });

  test("on demand, more values than a filter takes", async () => {
    const some = pets("on-demand");
    const ids = Array.from({ length: 250 }, (_, i) => i + 1);
    const query = createLiveQueryCollection((q) => q.from({ pet: some }).where(({ pet }) => inArray(pet.pet_id, ids)));
    await query.preload();
    expect(query.size).toBe(250);
    expect(filters()).toHaveLength(3);
  });

  test("on demand, the first rows in an order, and more of them", async () => {
    const some = indexed();
    const query = createLiveQueryCollection((q) =>
      q.from({ pet: some }).orderBy(({ pet }) => pet.born, "desc").orderBy(({ pet }) => pet.pet_id, "desc").limit(20).offset(0),
    );
    await query.preload();
    const wanted = (limit: number) => rowsOf(`select pet_id from pets order by born desc, pet_id desc limit ${limit}`).map(({ pet_id }) => pet_id);
    const shown = () => query.toArray.map(({ pet_id }) => pet_id);
    expect(shown()).toEqual(wanted(20));
    expect(some.size).toBeLessThan(40);
    for (const statement of [
      "insert into pets select n, 1, 'new', 1, '2025-01-01'::timestamptz + n * interval '1 s' from generate_series(400, 405) n",
      "delete from pets where pet_id in (select pet_id from pets order by born desc limit 12)",
      "update pets set born = '2026-01-01' where pet_id in (3, 4)",
      "delete from pets where pet_id in (select pet_id from pets order by born desc limit 70)",
    ]) {
      server.sql(statement);
      await vi.waitFor(() => expect(shown()).toEqual(wanted(20)), 30_000);
    }
    expect(some.size).toBeLessThan(200);
    const more = query.utils.setWindow({ offset: 0, limit: 60 });
    if (more !== true) await more;
    await vi.waitFor(() => expect(shown()).toEqual(wanted(60)), 30_000);
  });

  test("on demand, null where the order has it", async () => {
    for (const nulls of ["first", "last"] as const) {
      for (const direction of ["asc", "desc"] as const) {
        const some = indexed();
        const query = createLiveQueryCollection((q) =>
          q.from({ pet: some }).orderBy(({ pet }) => pet.weight, { direction, nulls }).orderBy(({ pet }) => pet.pet_id, direction).limit(40),
        );
        await query.preload();
        const wanted = rowsOf(`select pet_id from pets order by weight ${direction} nulls ${nulls}, pet_id ${direction} limit 40`);
        await vi.waitFor(() => expect(query.toArray.map(({ pet_id }) => ({ pet_id }))).toEqual(wanted), 30_000);
      }
    }
  });

  test("on demand, in the order of a boolean", async () => {
    for (const nulls of ["first", "last"] as const) {
      for (const direction of ["asc", "desc"] as const) {
        const some = indexed();
        const query = createLiveQueryCollection((q) =>
          q.from({ pet: some }).orderBy(({ pet }) => pet.tame, { direction, nulls }).orderBy(({ pet }) => pet.pet_id, direction).limit(40),
        );
        await query.preload();
        for (const limit of [40, 200]) {
          query.utils.setWindow({ offset: 0, limit });
          const wanted = rowsOf(`select pet_id from pets order by tame ${direction} nulls ${nulls}, pet_id ${direction} limit ${limit}`);
          await vi.waitFor(() => expect(query.toArray.map(({ pet_id }) => ({ pet_id }))).toEqual(wanted), 30_000);
        }
      }
    }
    for (const [range, where] of [
      [lt, "tame < true"],
      [gt, "tame > true"],
      [gte, "tame >= false"],
    ] as const) {
      const query = createLiveQueryCollection((q) => q.from({ pet: pets("on-demand") }).where(({ pet }) => range(pet.tame, where.endsWith("true"))));
      await query.preload();
      expect(query.size).toBe(Number(server.sql(`select count(*) from pets where ${where}`)));
    }
  });

  test("on demand, what no filter can say is refused", async () => {
    const some = pets("on-demand");
    const query = createLiveQueryCollection((q) => q.from({ pet: some }).where(({ pet }) => eq(upper(pet.name), "REX")));
    await expect(query.preload()).rejects.toThrow("rowcast cannot load what eq(…) selects");
    const localized = createCollection({
      ...rowcastCollectionOptions(client, "pets", { key: "pet_id", syncMode: "on-demand" }),
      defaultStringCollation: { stringSort: "locale" },
    });
    const ordered = createLiveQueryCollection((q) => q.from({ pet: localized }).orderBy(({ pet }) => pet.name).limit(3));
    await expect(ordered.preload()).rejects.toThrow('name is ordered by bytes in the database: say stringSort: "lexical"');
  });

  test("progressively, a query is answered before all rows have come, and they come", async () => {
    const all = pets("progressive");
    const query = createLiveQueryCollection((q) => q.from({ pet: all }).where(({ pet }) => eq(pet.owner_id, 7)));
    await query.preload();
    expect(query.size).toBe(10);
    await vi.waitFor(() => expect(all.size).toBe(300), 30_000);
    const other = createLiveQueryCollection((q) => q.from({ pet: all }).where(({ pet }) => eq(pet.owner_id, 8)));
    await other.preload();
    expect(other.size).toBe(10);
    expect(filters()).not.toContainEqual(["owner_id=eq.8"]);
    server.sql("delete from pets where owner_id = 7 and pet_id > 100");
    await vi.waitFor(() => expect(query.size).toBe(server.sql("select count(*) from pets where owner_id = 7") as any * 1), 30_000);
  });
});
