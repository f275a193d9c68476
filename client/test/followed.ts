/** Windows of a real server that are followed while others write, and what the database would have shown at each of their cuts. */
import { expect, vi } from "vitest";
import { type Client, type RowcastError, type RowWindow } from "../src/index.js";
import type { Server } from "./server.js";

export interface Order {
  order_id: number;
  state: string;
  amount: number | null;
  name: string | null;
  created_at: string;
}
export type Tables = { orders: Order; present: { id: number; n: number } };

/** With ROWCAST_WHOLE=long the writers write twenty times as much. */
export const TIMES = process.env.ROWCAST_WHOLE === "long" ? 20 : 1;
/** So many rows of an order are compared. */
const MOST = 150;

/** Windows, and what they have to be in SQL. */
const WINDOWS = {
  newest: { order: "created_at.desc", where: "true", by: "created_at desc, order_id desc", limit: 10 },
  open: { order: "amount.asc.nullsfirst", filter: "state=eq.open", where: "state = 'open'", by: "amount nulls first, order_id", limit: 5 },
  named: { order: ["name.desc", "amount"], filter: "or=(amount.gt.20,state.neq.done)", where: "(amount > 20 or state <> 'done')",
    by: `name collate "C" desc, amount, order_id`, limit: 7 },
  keyed: { order: undefined, where: "true", by: "order_id", limit: 25 },
} as const;
export type Name = keyof typeof WINDOWS;
export const NAMES = Object.keys(WINDOWS) as Name[];

/** What a policy lets its holder see of the orders, as rowcast and as SQL says it. */
export const SEEN_BY = {
  everybody: { filter: null, where: "true" },
  packer: { filter: "state=neq.done", where: "state <> 'done'" },
  dunner: { filter: "or=(state.eq.late,amount.is.null)", where: "(state = 'late' or amount is null)" },
} as const;
export type Seer = keyof typeof SEEN_BY;
const SEERS = Object.keys(SEEN_BY) as Seer[];

const rows = (name: Name, seer: Seer) => `from orders where ${WINDOWS[name].where} and ${SEEN_BY[seer].where}`;

/** A writer does something, and notes in the same transaction what each window has to show then. One after the other. */
export const TABLES = `
  create table orders (order_id int primary key, state text not null, amount numeric, name text, created_at timestamptz not null);
  create index on orders (created_at, order_id);
  create table present (id int primary key, n int); insert into present values (1, 0);
  create table past (n int, name text, seer text, ids int[], count int);
  create sequence ids;
  create function make(count int) returns void language sql as $$
    insert into orders select nextval('ids'), (array['open','done','late'])[1 + floor(random() * 3)],
      case when random() > 0.1 then (array['NaN', 'Infinity', '-1.5', '20', '1e3'])[1 + floor(random() * 5)]::numeric + floor(random() * 9) end,
      case when random() > 0.2 then (array['b','B','ä','zz','','🦀','ﬃ','a b'])[1 + floor(random() * 8)] || floor(random() * 3) end,
      timestamptz '2024-01-15 10:30:00+00' + random() * interval '1 year' from generate_series(1, count) $$;
  create procedure note(moved int) language sql as $$
    update present set n = moved;
    ${NAMES.flatMap((name) => SEERS.map((seer) => `insert into past select moved, '${name}', '${seer}', coalesce((select array_agg(order_id) from (
      select order_id ${rows(name, seer)} order by ${WINDOWS[name].by} limit ${MOST}) t), '{}'), (select count(*) ${rows(name, seer)})`)).join(";\n")} $$;
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
export const WATCH = "select rowcast.watch('public.orders'), rowcast.watch('public.present')";

/** Opens one of the windows. */
export function open(client: Client<Tables>, name: Name): RowWindow<Order> {
  const { where: _, by: __, ...options } = WINDOWS[name];
  return client.window("orders", { key: "order_id", count: true, ...options } as any);
}

export const ids = ({ rows }: { rows: readonly Order[] }): number[] => rows.map(({ order_id }) => order_id);

/** What one has to show now. */
export function inDatabase(server: Server, name: Name, limit: number, seer: Seer = "everybody"): number[] {
  const first = `select order_id ${rows(name, seer)} order by ${WINDOWS[name].by} limit ${limit}`;
  return JSON.parse(server.sql(`select coalesce(json_agg(order_id), '[]') from (${first}) t`));
}

/** What a window showed at a cut. */
interface Seen {
  n: number;
  name: Name;
  limit: number;
  ids: number[];
  isLoading: boolean;
  hasMore: boolean;
  count: number;
}

/** Follows all of the windows: every cut is compared with what the writer has noted. */
export async function follow(server: Server, client: Client<Tables>) {
  const windows = Object.fromEntries(NAMES.map((name) => [name, open(client, name)])) as Record<Name, RowWindow<Order>>;
  const limits: Record<Name, number> = Object.fromEntries(NAMES.map((name) => [name, WINDOWS[name].limit])) as any;
  const present = client.collection("present", { key: "id" });
  const errors: RowcastError[] = [];
  for (const each of [present, ...Object.values(windows)]) each.on("error", (error) => errors.push(error));
  await Promise.all([present, ...Object.values(windows)].map(({ ready }) => ready));
  const seen: Seen[] = [];
  present.on("change", () => {
    for (const name of NAMES) {
      const { isLoading, hasMore, count } = windows[name];
      seen.push({ n: present.get(1)!.n, name, limit: limits[name], ids: ids(windows[name]), isLoading, hasMore, count: count! });
    }
  });

  /** Shows more of one. */
  async function more(name: Name, by: number): Promise<void> {
    if (!windows[name].hasMore) return;
    const loaded = windows[name].loadMore(by);
    limits[name] += by;
    await loaded;
  }

  const areRight = (seer: Seer = "everybody") => {
    for (const name of NAMES) expect([name, ids(windows[name])]).toEqual([name, inDatabase(server, name, limits[name], seer)]);
  };

  /** Until the windows show the last transaction, and lack nothing; and, where the policy was changed, what that lets them see. */
  async function settled(seer?: Seer): Promise<void> {
    const last = Number(server.sql("select n from present"));
    await vi.waitFor(() => {
      expect(present.get(1)!.n).toBe(last);
      for (const name of NAMES) expect(windows[name].isLoading).toBe(false);
      if (seer) areRight(seer);
    }, 90_000);
    expect(errors).toEqual([]);
    areRight(seer);
  }

  /** Each cut is what one of these saw then; one later in the list is not followed by an earlier one. */
  function compare(least: number, seers: readonly Seer[] = ["everybody"]) {
    const past = new Map<string, { ids: number[]; count: number }>();
    const last = Math.max(...seen.map(({ n }) => n));
    for (let from = 0; from <= last; from += 100) {
      const some = `select coalesce(json_agg(past), '[]') from past where n >= ${from} and n < ${from + 100}`;
      for (const { n, name, seer, ids, count } of JSON.parse(server.sql(some))) past.set(`${n} ${name} ${seer}`, { ids, count });
    }
    const cuts = new Set(seen.map(({ n }) => n)).size;
    expect(cuts).toBeGreaterThan(least);
    const at: Record<Name, number> = Object.fromEntries(NAMES.map((name) => [name, 0])) as any;
    let loading = 0;
    for (const { n, name, limit, ids, isLoading, hasMore, count } of seen) {
      const isWhatSees = (seer: Seer) => {
        const wanted = past.get(`${n} ${name} ${seer}`)!;
        const first = wanted.ids.slice(0, limit);
        // rows may be on their way; those that are there are the first ones all the same
        expect([n, name, seer, ids]).toEqual([n, name, seer, isLoading ? first.slice(0, ids.length) : first]);
        expect([n, name, seer, count]).toEqual([n, name, seer, wanted.count]);
        if (!hasMore) expect([n, name, seer, ids.length]).toEqual([n, name, seer, wanted.count]);
      };
      const fits = (seer: Seer) => {
        try {
          isWhatSees(seer);
          return true;
        } catch {
          return false;
        }
      };
      while (at[name] < seers.length - 1 && !fits(seers[at[name]]!)) at[name]++;
      isWhatSees(seers[at[name]]!);
      loading += Number(isLoading);
    }
    return { cuts, states: seen.length, loading };
  }

  return { windows, more, settled, compare };
}
