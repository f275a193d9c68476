/** Windows of a real server: at each cut they are what the database gives in that order. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client, type RowcastError, type RowWindow } from "../src/index.js";
import { Front } from "./front.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

interface Order {
  order_id: number;
  state: string;
  amount: number | null;
  name: string | null;
  created_at: string;
}

/** With ROWCAST_WHOLE=long the writers write twenty times as much. */
const TIMES = process.env.ROWCAST_WHOLE === "long" ? 20 : 1;
/** So many rows of an order are compared. */
const MOST = 150;

/** Windows, and what they have to be in SQL. */
const WINDOWS = {
  newest: { order: "created_at.desc", sql: "order by created_at desc, order_id desc", limit: 10 },
  open: { order: "amount.asc.nullsfirst", filter: "state=eq.open", sql: "where state = 'open' order by amount nulls first, order_id", limit: 5 },
  named: { order: ["name.desc", "amount"], filter: "or=(amount.gt.20,state.neq.done)", limit: 7,
    sql: `where amount > 20 or state <> 'done' order by name collate "C" desc, amount, order_id` },
  keyed: { order: undefined, sql: "order by order_id", limit: 25 },
} as const;
type Name = keyof typeof WINDOWS;
const NAMES = Object.keys(WINDOWS) as Name[];

/** A writer does something, and notes in the same transaction what each window has to show then. One after the other. */
const TABLES = `
  create table orders (order_id int primary key, state text not null, amount numeric, name text, created_at timestamptz not null);
  create index on orders (created_at, order_id);
  create table present (id int primary key, n int); insert into present values (1, 0);
  create table past (n int, name text, ids int[], count int);
  create sequence ids;
  create function make(count int) returns void language sql as $$
    insert into orders select nextval('ids'), (array['open','done','late'])[1 + floor(random() * 3)],
      case when random() > 0.1 then (array['NaN', 'Infinity', '-1.5', '20', '1e3'])[1 + floor(random() * 5)]::numeric + floor(random() * 9) end,
      case when random() > 0.2 then (array['b','B','ä','zz','','🦀','ﬃ','a b'])[1 + floor(random() * 8)] || floor(random() * 3) end,
      timestamptz '2024-01-15 10:30:00+00' + random() * interval '1 year' from generate_series(1, count) $$;
  create procedure note(moved int) language sql as $$
    update present set n = moved;
    ${NAMES.map((name) => `insert into past select moved, '${name}', coalesce((select array_agg(order_id) from (
      select order_id from orders ${WINDOWS[name].sql} limit ${MOST}) t), '{}'), (select count(*) from orders ${WINDOWS[name].sql.replace(/order by.*/, "")})`).join(";\n")} $$;
  create function a_few(count int) returns setof int language sql as $$ select order_id from orders order by random() limit count $$;
  create procedure write_all(count int, pause float) language plpgsql as $$
    declare kind float; moved int;
    begin
      for i in 1..count loop
        perform pg_advisory_xact_lock(1);
        kind := random();
        if kind < 0.3 then perform make(1 + floor(random() * 5)::int);
        elsif kind < 0.45 then delete from orders where order_id in (select a_few(3));
        elsif kind < 0.6 then delete from orders where order_id in (select order_id from orders order by created_at desc, order_id desc limit 4);
        elsif kind < 0.75 then update orders set created_at = timestamptz '2025-01-15 10:30:00+00' - random() * interval '1 year' where order_id in (select a_few(4));
        elsif kind < 0.85 then update orders set state = (array['open','done','late'])[1 + floor(random() * 3)], amount = floor(random() * 40) where order_id in (select a_few(6));
        elsif kind < 0.9 then update orders set order_id = nextval('ids') where order_id in (select a_few(2));
        elsif kind < 0.93 then update orders set name = 'same' || order_id % 3 where order_id in (select a_few(30));
        elsif kind < 0.96 then perform make(120);
        elsif kind < 0.97 then delete from orders where order_id in (select order_id from orders order by created_at desc limit 80);
        else truncate orders; perform make(200);
        end if;
        select n + 1 into moved from present;
        call note(moved);
        commit;
        perform pg_sleep(pause * random());
      end loop;
    end $$;
  select make(400)`;
const WATCH = "select rowcast.watch('public.orders'), rowcast.watch('public.present')";

describeWhere(missing(), "windows of a real server", () => {
  let server: Server;
  let front: Front;
  let client: Client<{ orders: Order; present: { id: number; n: number } }>;

  beforeAll(async () => {
    server = await Server.start({ tables: TABLES, watch: WATCH, env: {} });
    front = new Front(() => server.port);
  });
  afterAll(() => server?.stop());

  beforeEach(async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.02); // short pauses
    await front.open();
    client = connect(front.url, { WebSocket });
  });
  afterEach(async () => {
    client.close();
    await front.cut();
  });

  const open = (name: Name): RowWindow<Order> => {
    const { sql: _, ...options } = WINDOWS[name];
    return client.window("orders", { key: "order_id", count: true, ...options } as any);
  };
  const ids = ({ rows }: { rows: readonly Order[] }) => rows.map(({ order_id }) => order_id);
  const inDatabase = (name: Name, limit: number): number[] =>
    JSON.parse(server.sql(`select coalesce(json_agg(order_id), '[]') from (select order_id from orders ${WINDOWS[name].sql} limit ${limit}) t`));

  /** What the windows showed at each cut. */
  interface Seen {
    n: number;
    name: Name;
    limit: number;
    ids: number[];
    isLoading: boolean;
    hasMore: boolean;
    count: number;
  }

  /** Windows whose every cut is compared with what the writer has noted. */
  async function follow() {
    const windows = Object.fromEntries(NAMES.map((name) => [name, open(name)])) as Record<Name, RowWindow<Order>>;
    const limits = Object.fromEntries(NAMES.map((name) => [name, WINDOWS[name].limit])) as Record<Name, number>;
    const present = client.collection("present", { key: "id" });
    const errors: RowcastError[] = [];
    for (const each of [present, ...Object.values(windows)]) each.on("error", (error) => errors.push(error));
    await Promise.all([present, ...Object.values(windows)].map(({ ready }) => ready));
    const seen: Seen[] = [];
    const look = () => {
      for (const name of NAMES) {
        const { isLoading, hasMore, count } = windows[name];
        seen.push({ n: present.get(1)!.n, name, limit: limits[name], ids: ids(windows[name]), isLoading, hasMore, count: count! });
      }
    };
    present.on("change", look);
    const more = async (name: Name, by: number) => {
      if (!windows[name].hasMore) return;
      const loaded = windows[name].loadMore(by);
      limits[name] += by;
      await loaded;
    };
    /** until the windows show the last transaction, and lack nothing */
    const settled = async () => {
      const last = Number(server.sql("select n from present"));
      await vi.waitFor(() => {
        expect(present.get(1)!.n).toBe(last);
        for (const name of NAMES) expect(windows[name].isLoading).toBe(false);
      }, 30_000);
      expect(errors).toEqual([]);
      for (const name of NAMES) expect([name, ids(windows[name])]).toEqual([name, inDatabase(name, limits[name])]);
    };
    const compare = (least: number) => {
      const past = new Map<string, { ids: number[]; count: number }>();
      const last = Math.max(...seen.map(({ n }) => n));
      for (let from = 0; from <= last; from += 100) {
        const some = `select coalesce(json_agg(past), '[]') from past where n >= ${from} and n < ${from + 100}`;
        for (const { n, name, ids, count } of JSON.parse(server.sql(some))) past.set(`${n} ${name}`, { ids, count });
      }
      const cuts = new Set(seen.map(({ n }) => n)).size;
      expect(cuts).toBeGreaterThan(least);
      let loading = 0;
      for (const { n, name, limit, ids, isLoading, hasMore, count } of seen) {
        const wanted = past.get(`${n} ${name}`)!;
        const first = wanted.ids.slice(0, limit);
        // rows may be on their way; those that are there are the first ones all the same
        expect([n, name, ids]).toEqual([n, name, isLoading ? first.slice(0, ids.length) : first]);
        expect([n, name, count]).toEqual([n, name, wanted.count]);
        if (!hasMore) expect([n, name, ids.length]).toEqual([n, name, wanted.count]);
        loading += Number(isLoading);
      }
      return { cuts, states: seen.length, loading };
    };
    return { windows, more, settled, compare };
  }

  test("it is `order by … limit` at every cut, while four sessions write", async () => {
    const { more, settled, compare } = await follow();
    const writing = Array.from({ length: 4 }, () => server.write(`call write_all(${60 * TIMES}, 0.1)`));
    for (let i = 0; i < 4; i++) for (const name of NAMES) await more(name, 6);
    await Promise.all(writing);
    await settled();
    const { states, loading } = compare(40);
    // a surplus is held: a row that goes is followed by the next one in the same cut
    expect(loading).toBeLessThan(states / 4);
  });

  test("also over lost connections, and a server that starts anew", async () => {
    const { more, settled, compare } = await follow();
    const writing = server.write(`call write_all(${120 * TIMES}, 0.06)`);
    for (let i = 0; i < 4; i++) {
      const loaded = more("newest", 20);
      await front.cut();
      await front.open();
      if (i === 2) {
        await server.end("SIGKILL");
        await server.serve();
      }
      await loaded;
    }
    await writing;
    await settled();
    compare(5);
  });

  test("writers that do not wait for each other", async () => {
    const { windows, settled } = await follow();
    const orders = `do $$ begin for i in 1..150 loop perform make(1 + floor(random() * 3)::int); commit;
      delete from orders where order_id in (select a_few(2)); commit;
      update orders set amount = random() * 40, created_at = created_at + random() * interval '1 day' where order_id in (select a_few(2)); commit; end loop; end $$`;
    await Promise.all([1, 2, 3].map(() => server.write(orders).catch((error) => expect(String(error)).toMatch("deadlock"))));
    server.sql("update present set n = n + 1");
    await settled();
    expect(windows.newest.rows).toHaveLength(10);
  });

  test("what changed while capture was off is read again", async () => {
    const { settled, windows } = await follow();
    server.sql("alter table orders disable trigger user");
    server.sql("delete from orders where order_id in (select order_id from orders order by created_at desc limit 30)");
    await vi.waitFor(() => expect(ids(windows.newest)).toEqual(inDatabase("newest", 10)), 25_000);
    server.sql("alter table orders enable trigger user");
    server.sql("select make(5); update present set n = n + 1");
    await settled();
  });

  test("all the way to the end, page after page", async () => {
    server.sql("truncate orders; select make(3500)");
    const window = client.window("orders", { key: "order_id", order: "name.desc,created_at", limit: 900, columns: ["order_id", "name", "created_at"] });
    await window.ready;
    while (window.hasMore) await window.loadMore(1_000);
    const all = JSON.parse(server.sql(`select json_agg(order_id) from (select order_id from orders order by name collate "C" desc, created_at, order_id) t`));
    expect(window.rows.map(({ order_id }) => order_id)).toEqual(all);
    expect(all).toHaveLength(3_500);
  });

  test("what cannot be ordered is refused", async () => {
    const refused = (order: any) => client.window("orders", { key: "order_id", order }).ready.then(String, ({ code }: RowcastError) => code);
    expect(await refused("nothing")).toBe("bad_order");
    const columns = ["order_id"] as const;
    const { ready } = client.window("orders", { key: "order_id", order: "name", columns });
    expect(await ready.then(String, ({ code }: RowcastError) => code)).toBe("bad_order");
    // a large table has no index for it
    server.sql("select make(12000); analyze orders");
    await expect.poll(() => refused("amount"), { timeout: 20_000 }).toBe("bad_order");
    const window = client.window("orders", { key: "order_id", order: "created_at.desc", limit: 10 });
    await window.ready;
    expect(ids(window)).toEqual(inDatabase("newest", 10));
  });

  test("by event streams, where no WebSocket gets through", async () => {
    class Refused {
      readyState = 3;
      onopen = null;
      onmessage = null;
      onerror = null;
      onclose: ((event: any) => void) | null = null;
      constructor() {
        setTimeout(() => this.onclose?.({ code: 1006, reason: "" }));
      }
      send(): void {}
      close(): void {}
    }
    server.sql("truncate orders; select make(300)");
    const client = connect(server.url, { WebSocket: Refused });
    const window = client.window("orders", { key: "order_id", order: "created_at.desc", limit: 10 });
    await window.ready;
    await window.loadMore(40);
    expect(ids(window)).toEqual(inDatabase("newest", 50));
    server.sql("delete from orders where order_id in (select order_id from orders order by created_at desc limit 60)");
    await vi.waitFor(() => expect(ids(window)).toEqual(inDatabase("newest", 50)), 20_000);
    client.close();
  });
});
