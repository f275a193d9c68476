/** What a page shows is a state that the database was in. In a real browser, against a real server. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle } from "./bundle.js";
import { Chromium, noChromium } from "./chromium.js";
import { Front } from "./front.js";
import { missing, Server } from "./server.js";
import { SlowLine } from "./slow-line.js";
import { describeWhere } from "./where.js";

/** With ROWCAST_WHOLE=long there are thousands of transactions, for minutes, and figures are printed. */
const isLong = process.env.ROWCAST_WHOLE === "long";

/** Transactions, rows of each table in one, tables, and how often the line is cut meanwhile. */
type Load = [transactions: number, rows: number, tables: number, cuts: number];
const SHORT: [rate: number, loads: Load[]][] = [
  [50_000, [[6, 2, 1, 1], [6, 2, 3, 1], [6, 10, 1, 1], [6, 10, 3, 1], [3, 50, 1, 1], [2, 50, 3, 1]]],
  [600_000, [[20, 50, 3, 1], [2, 1_000, 1, 1], [2, 1_000, 3, 2]]],
];
const LONG: [rate: number, loads: Load[]][] = [
  [50_000, [[1_000, 2, 1, 3], [300, 10, 1, 3]]],
  [50_000, [[100, 50, 1, 2], [4, 1_000, 1, 2]]],
  [600_000, [[1_000, 2, 1, 5], [1_000, 2, 3, 5], [1_000, 10, 1, 5], [1_000, 10, 3, 5]]],
  [600_000, [[1_000, 50, 1, 5]]],
  [600_000, [[1_000, 50, 3, 8]]],
  [600_000, [[30, 1_000, 1, 5], [30, 1_000, 3, 5]]],
];

/** Transaction `n` writes so many rows of each of the first tables, and the sums of all. `write_all` runs one after the other. */
const TABLES = `create table a (id int primary key, v int); create table b (id int primary key, v int);
  create table c (id int primary key, v int);
  create table total (id int primary key, sum_a bigint, sum_b bigint, sum_c bigint, n int);
  insert into total values (1, 0, 0, 0, 0);
  create function write_rows(n int, rows int, tables int default 3) returns void language plpgsql as $$
    declare t text;
    begin
      foreach t in array (array['a', 'b', 'c'])[:tables] loop
        execute format('insert into %I select i, %s * 7 + i from generate_series(1, %s) i
          on conflict (id) do update set v = excluded.v', t, n, rows);
        if n % 4 = 3 then execute format('delete from %I where id <= %s and id %% 3 = 0', t, rows); end if;
      end loop;
      update total set sum_a = (select coalesce(sum(v), 0) from a), sum_b = (select coalesce(sum(v), 0) from b),
        sum_c = (select coalesce(sum(v), 0) from c), n = write_rows.n;
    end $$;
  create procedure write_all(first int, last int, rows int, tables int, pause float default 0) language plpgsql as $$ begin
    for n in first..last loop perform write_rows(n, rows, tables); commit; perform pg_sleep(pause); end loop;
  end $$`;
const WATCH = "select rowcast.watch('public.a'), rowcast.watch('public.b'), rowcast.watch('public.c'), rowcast.watch('public.total')";

describeWhere(noChromium() ?? missing(), "a page that joins collections", () => {
  let server: Server;
  let front: Front;
  let chromium: Chromium;
  /** between the front and the server, where there is one */
  let line: SlowLine | undefined;
  /** of the last transaction */
  let n = 0;

  beforeAll(async () => {
    const html = `<!doctype html><body><script type="module">${await bundle("pages/whole.ts")}</script>`;
    server = await Server.start({ tables: TABLES, watch: WATCH, env: {} });
    front = new Front(() => line?.port ?? server.port, { "/": html });
    chromium = await Chromium.start();
    await front.open();
  });
  afterAll(() => front?.cut());
  afterAll(() => line?.close());
  afterAll(() => server?.stop());
  afterAll(() => chromium?.stop());

  const seen = (page: Page) => page.evaluate(() => (globalThis as any).seen);
  const comesTo = (page: Page, n: number, timeout = 90_000) =>
    page.waitForFunction((n) => (globalThis as any).seen.n === n, n, { polling: 20, timeout });

  /** Cuts the page's socket, and has the page come back at once. */
  async function cut(page: Page, meanwhile = () => {}): Promise<void> {
    const { length } = (await seen(page)).closes;
    const cut = front.cut();
    meanwhile();
    await cut;
    await page.waitForFunction((length) => (globalThis as any).seen.closes.length > length, length, { polling: 20 });
    await front.open();
    await page.evaluate(() => dispatchEvent(new Event("online")));
  }

  test.each([
    ["alone", "", 1],
    ["with a socket of two tabs", "#shared", 2],
  ])("agrees at every event with one snapshot of the database, %s", async (_, hash, tabs) => {
    const pages = await Promise.all(Array.from({ length: tabs }, () => chromium.context.newPage()));
    for (const page of pages) {
      await page.goto(`${front.url}/${hash}`);
      await comesTo(page, n);
    }
    const first = n;
    const before = await Promise.all(pages.map(async (page) => (await seen(page)).events));
    const all = async () => {
      for (const page of pages) await comesTo(page, n);
    };
    // one after the other: an event for each collection that changed
    for (const rows of [1, 2, 10, 50, 1_000, 10]) {
      server.sql(`select write_rows(${++n}, ${rows})`);
      await all();
    }
    for (const [i, page] of pages.entries()) {
      expect(await seen(page)).toMatchObject({ torn: [], events: before[i] + 4 * (n - first) });
    }
    // as fast as it goes
    for (const rows of [2, 10, 50, 300]) server.sql(`call write_all(${n + 1}, ${(n += 15)}, ${rows}, 3)`);
    await all();
    // over lost connections, some of them in the middle of a transaction
    for (let round = 0; round < 3; round++) {
      await cut(pages[0]!, () => {
        for (const rows of [10, 500]) server.sql(`call write_all(${n + 1}, ${(n += 10)}, ${rows}, 3)`);
      });
      server.sql(`select write_rows(${++n}, 5)`);
      await all();
    }
    for (const page of pages) {
      expect((await seen(page)).torn).toEqual([]);
      await page.close();
    }
  }, 300_000);

  test.each(isLong ? LONG : SHORT)("agrees over a line of %i bytes a second that is cut", async (rate, loads) => {
    server.sql("truncate a, b, c; update total set sum_a = 0, sum_b = 0, sum_c = 0");
    line = await SlowLine.open(server.port, rate);
    const page = await chromium.context.newPage();
    await page.goto(front.url);
    await comesTo(page, n);
    for (const [transactions, rows, tables, cuts] of loads) {
      const [began, before, passed] = [performance.now(), await seen(page), line.passed];
      // no message of a change is shorter: the writer is faster than the line, and each cut is before the last has come
      const size = 200 * rows * tables;
      const writing = server.write(`call write_all(${n + 1}, ${(n += transactions)}, ${rows}, ${tables}, ${size / rate})`);
      const share = (size * transactions) / (cuts + 1);
      for (let i = 0; i < cuts; i++) {
        await line.passes(share);
        await cut(page);
      }
      await writing;
      await comesTo(page, n, 600_000);
      const { events, torn, closes } = await seen(page);
      expect(torn).toEqual([]);
      expect(events).toBeGreaterThan(before.events + 1);
      if (isLong) {
        const seconds = (performance.now() - began) / 1_000;
        console.log({ rate, transactions, rows, tables, seconds, bytes: line.passed - passed });
        console.log({ events: events - before.events, closes: closes.slice(before.closes.length).join() });
      }
    }
    await page.close();
    line.close();
  }, isLong ? 900_000 : 300_000);

  test.runIf(isLong)("a list of 48 MB arrives over a slow line, and keeps neither the database nor others waiting", async () => {
    const row = "n % 977, 'customer ' || n % 20000, 'the street and number ' || n, 'open', now()";
    server.sql(`create table orders (order_id int primary key, product int, customer text, address text, state text, at timestamptz);
      insert into orders select n, ${row} from generate_series(1, 300000) n;
      select rowcast.watch('public.orders')`);
    const html = `<!doctype html><body><script type="module">${await bundle("pages/large.ts")}</script>`;
    line = await SlowLine.open(server.port, 600_000);
    const fronts = [new Front(() => line!.port, { "/": html }), new Front(() => server.port, { "/": html })];
    const large = (page: Page) => page.evaluate(() => (globalThis as any).large);
    const open = async (front: Front) => {
      await front.open();
      const page = await chromium.context.newPage();
      await page.goto(front.url);
      return page;
    };
    const arrives = (page: Page) =>
      page.waitForFunction(() => (globalThis as any).large.size > 0, undefined, { polling: 100, timeout: 300_000 });
    const memory = server.memory();
    const slow = await open(fronts[0]!);
    await line.passes(10_000_000);
    const quick = await open(fronts[1]!);
    await arrives(quick);
    expect((await large(slow)).size).toBe(0);
    const ofRelay = "pg_stat_activity where application_name like 'rowcast%' and xact_start is not null";
    const transactions: string[] = [];
    for (let i = 0; i < 5; i++) {
      await line.passes(2_000_000);
      transactions.push(await server.write(`select count(*) from ${ofRelay}`));
    }
    const most = server.memory();
    expect(transactions).toEqual(["0", "0", "0", "0", "0"]);
    await arrives(slow);
    for (const page of [slow, quick]) {
      expect(await large(page)).toMatchObject({ size: 300_000, errors: [], sockets: 1 });
      console.log(await large(page));
      await page.close();
    }
    console.log({ bytes: line.passed, memory, most, after: server.memory() });
    for (const front of fronts) await front.cut();
    line.close();
  }, 600_000);
});
