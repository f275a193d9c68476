/** Windows of a real server: at each cut they are what the database gives in that order. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client, type RowcastError } from "../src/index.js";
import { follow, ids, inDatabase, NAMES, TABLES, TIMES, WATCH, type Tables } from "./followed.js";
import { Front } from "./front.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

describeWhere(missing(), "windows of a real server", () => {
  let server: Server;
  let front: Front;
  let client: Client<Tables>;

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

  test("it is `order by … limit` at every cut, while four sessions write", async () => {
    const { more, settled, compare } = await follow(server, client);
    const writing = Array.from({ length: 4 }, () => server.write(`call write_all(${60 * TIMES}, 0.1)`));
    for (let i = 0; i < 4; i++) for (const name of NAMES) await more(name, 6);
    await Promise.all(writing);
    await settled();
    const { states, loading } = compare(40);
    // a surplus is held: a row that goes is followed by the next one in the same cut
    expect(loading).toBeLessThan(states / 4);
  });

  test("also over lost connections, and a server that starts anew", async () => {
    const { more, settled, compare } = await follow(server, client);
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
    compare(2);
  });

  test("writers that do not wait for each other", async () => {
    const { windows, settled } = await follow(server, client);
    const orders = `do $$ begin for i in 1..150 loop perform make(1 + floor(random() * 3)::int); commit;
      delete from orders where order_id in (select a_few(2)); commit;
      update orders set amount = random() * 40, created_at = created_at + random() * interval '1 day' where order_id in (select a_few(2)); commit; end loop; end $$`;
    await Promise.all([1, 2, 3].map(() => server.write(orders).catch((error) => expect(String(error)).toMatch("deadlock"))));
    server.sql("update present set n = n + 1");
    await settled();
    expect(windows.newest.rows).toHaveLength(10);
  });

  test("what changed while capture was off is read again", async () => {
    const { settled, windows } = await follow(server, client);
    server.sql("alter table orders disable trigger user");
    server.sql("delete from orders where order_id in (select order_id from orders order by created_at desc limit 30)");
    await vi.waitFor(() => expect(ids(windows.newest)).toEqual(inDatabase(server, "newest", 10)), 25_000);
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
    await expect.poll(() => refused("amount"), { timeout: 60_000 }).toBe("bad_order");
    const window = client.window("orders", { key: "order_id", order: "created_at.desc", limit: 10 });
    await window.ready;
    expect(ids(window)).toEqual(inDatabase(server, "newest", 10));
  });

  test("numbers that JavaScript rounds end it: behind one, rows would be passed over", async () => {
    server.sql(`create table if not exists events (id bigint primary key, at bigint not null); truncate events;
      create index if not exists events_at on events (at, id); select rowcast.watch('public.events')`);
    const open = (order?: string, limit = 10) => (client as Client<any>).window("events", { key: "id", order, limit } as any);
    const ended = (window: ReturnType<typeof open>) => window.ready.then(() => new Promise((resolve) => window.on("error", resolve)), (error) => error);
    server.sql("insert into events select 9007199254740993 + n, n from generate_series(1, 200) n");
    for (const window of [open(), open("at.desc")]) expect(await ended(window)).toMatchObject({ code: "unsafe_key", final: true });
    server.sql("truncate events; insert into events select n, n from generate_series(1, 20) n");
    const window = open("at.desc", 30); // no page that was read a moment ago
    const error = ended(window);
    await window.ready;
    server.sql("insert into events values (21, 1700000000000000001)");
    expect(await error).toMatchObject({ code: "unsafe_key", final: true });
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
    expect(ids(window)).toEqual(inDatabase(server, "newest", 50));
    server.sql("delete from orders where order_id in (select order_id from orders order by created_at desc limit 60)");
    await vi.waitFor(() => expect(ids(window)).toEqual(inDatabase(server, "newest", 50)), 20_000);
    client.close();
  });
});
