/** Inboxes of a real server: what is shown, and how many messages are unread, while other sessions write. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client } from "../src/index.js";
import { inboxStore, type InboxStoreOptions, type InboxView, type Store } from "../src/store.js";
import { Front } from "./front.js";
import { jwt, SECRET } from "./jwt.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

interface Message {
  inbox_id: number;
  user_id: number;
  title: string;
  read_at: string | null;
}
interface Mail {
  mail_id: string;
  owner: string;
  seen: string | null;
  sent_at: string;
}
type Tables = { inbox: Message; mail: Mail };

const TABLES = `
  create table inbox (inbox_id bigint generated always as identity primary key, user_id bigint not null, title text not null, read_at timestamptz);
  create index on inbox (user_id, inbox_id);
  create table mail (mail_id uuid primary key default gen_random_uuid(), owner text not null, seen date, sent_at timestamptz not null default now())`;
const WATCH = "select rowcast.watch('public.inbox'), rowcast.watch('public.mail')";
const READ = "update inbox set read_at = now() where";

/** The statement that sends user 7 messages, the first of which are read, and one to user 8. */
const send = (count: number, read = 0) =>
  `insert into inbox (user_id, title, read_at) select 7, 'message ' || n, case when n <= ${read} then now() end
     from generate_series(1, ${count}) n;
   insert into inbox (user_id, title) values (8, 'of another')`;

/** What a subscriber of a store is shown. */
function watch<Row>(store: Store<InboxView<Row>>) {
  const views: InboxView<Row>[] = [];
  const leave = store.subscribe((view) => views.push(view));
  return { store, views, leave };
}

describeWhere(missing(), "an inbox", () => {
  let server: Server;
  let front: Front;
  let clients: Client<Tables>[];

  beforeAll(async () => {
    server = await Server.start({ tables: TABLES, watch: WATCH, env: {} });
    front = new Front(() => server.port);
  });
  afterAll(() => server?.stop());

  beforeEach(async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.02); // short pauses
    server.sql("truncate inbox, mail");
    clients = [];
    await front.open();
  });
  afterEach(async () => {
    for (const client of clients) client.close();
    await front.cut();
  });

  function open(): Client<Tables> {
    const client = connect<Tables>(front.url, { WebSocket });
    clients.push(client);
    return client;
  }

  /** An inbox of user 7, as a page has it that has just been loaded. */
  async function load(options: InboxStoreOptions<Tables, "inbox"> = {}) {
    const inbox = watch(inboxStore(open(), 7, options));
    await expect.poll(() => inbox.store.get().isReady).toBe(true);
    return inbox;
  }

  const titles = ({ messages }: InboxView<Message>) => messages.map(({ title }) => title);
  /** Messages of user 7 in the database, the newest first. */
  const all = (): Message[] =>
    JSON.parse(server.sql("select coalesce(json_agg(i order by inbox_id desc), '[]') from inbox i where user_id = 7"));
  const unreadOf = (messages: readonly Message[]) => messages.filter(({ read_at }) => read_at === null).length;

  /** Waits until an inbox shows the newest messages of the database, and how many of all are unread. */
  async function settled({ store }: { store: Store<InboxView<Message>> }, count: number) {
    const there = all();
    const wanted = { ids: there.slice(0, count).map(({ inbox_id }) => inbox_id), unread: unreadOf(there), isExact: true };
    await expect
      .poll(() => {
        const { messages, unread, isExact } = store.get();
        return { ids: messages.map(({ inbox_id }) => inbox_id), unread, isExact };
      })
      .toEqual(wanted);
  }

  test("has the newest messages first, read and unread, and none of another user", async () => {
    server.sql(send(3, 1));
    const { store } = await load();
    expect(titles(store.get())).toEqual(["message 3", "message 2", "message 1"]);
    expect(store.get().messages).toEqual(all());
    expect(store.get()).toMatchObject({ unread: 2, isExact: true, hasMore: false, isLoading: false });
    server.sql("insert into inbox (user_id, title) values (7, 'newest'), (8, 'of another')");
    await expect.poll(() => titles(store.get())[0]).toBe("newest");
    expect(titles(store.get())).toHaveLength(4);
    expect(store.get().unread).toBe(3);
  });

  test("counts what is unread beyond its page too: as messages come, are read, unread again and deleted", async () => {
    server.sql(send(50, 10));
    const inbox = await load({ limit: 5 });
    expect(inbox.store.get()).toMatchObject({ unread: 40, isExact: true, hasMore: true });
    const first = "inbox_id in (select inbox_id from inbox where user_id = 7 order by inbox_id limit";
    for (const [statement, unread] of [
      ["insert into inbox (user_id, title) values (7, 'one'), (7, 'two'), (8, 'of another')", 42],
      [`${READ} title = 'two'`, 41],
      [`${READ} user_id = 8`, 41],
      [`${READ} ${first} 20)`, 31], // far behind the page, ten of them again
      [`update inbox set read_at = null where ${first} 5)`, 36],
      [`delete from inbox where ${first} 15)`, 31],
      ["delete from inbox where title in ('one', 'two', 'message 50')", 29],
      ["update inbox set user_id = 8 where title = 'message 49'", 28],
      ["update inbox set title = title || '!'", 28],
      [`${READ} user_id = 7 and read_at is null`, 0],
      [send(12), 12],
      ["delete from inbox where user_id = 7 and read_at is null", 0],
      ["truncate inbox", 0],
      [send(3), 3],
    ] as const) {
      server.sql(statement);
      await settled(inbox, 5);
      expect(inbox.store.get().unread, statement).toBe(unread);
    }
    expect(inbox.views.every(({ messages }) => messages.every(({ user_id }) => user_id === 7))).toBe(true);
  });

  test("shows messages and number of one moment, once for a transaction", async () => {
    server.sql(send(20, 5));
    const inbox = await load({ limit: 1_000 });
    const before = inbox.views.length;
    server.sql(`${READ} user_id = 7 and read_at is null`);
    await settled(inbox, 1_000);
    expect(inbox.views.slice(before)).toHaveLength(1);
    const write = () =>
      server.write(`do $$ begin for i in 1..40 loop
        insert into inbox (user_id, title) select 7 + random()::int, 'more' from generate_series(1, 3); commit;
        update inbox set read_at = case when random() < 0.7 then now() end where inbox_id in
          (select inbox_id from inbox order by random() limit 3 for update skip locked); commit;
        delete from inbox where inbox_id in (select inbox_id from inbox order by random() limit 1 for update skip locked); commit;
        perform pg_sleep(0.01); end loop; end $$`);
    // on a busy machine there are fewer views
    do await Promise.all([write(), write(), write()]);
    while (inbox.views.length - before <= 20);
    await settled(inbox, 1_000);
    for (const { messages, unread } of inbox.views) expect(unread).toBe(unreadOf(messages));
    expect(inbox.views.map(({ isReady }) => isReady).indexOf(true)).toBe(1);
  });

  test("shows more when somebody asks for it, page after page", async () => {
    server.sql(send(130, 100));
    const inbox = await load();
    expect(inbox.store.get().messages).toHaveLength(20);
    inbox.store.get().loadMore();
    await settled(inbox, 40);
    server.sql("insert into inbox (user_id, title) values (7, 'newest')");
    await settled(inbox, 40);
    expect(inbox.store.get()).toMatchObject({ unread: 31, hasMore: true });
    inbox.store.get().loadMore(1_000);
    await settled(inbox, 131);
    expect(inbox.store.get()).toMatchObject({ unread: 31, hasMore: false, isLoading: false });
  });

  test("is the same after a reload, on another device, and after a lost connection", async () => {
    server.sql(send(30, 12));
    const [here, there] = [await load(), await load()];
    expect(there.store.get()).toEqual({ ...here.store.get(), loadMore: expect.any(Function) });
    server.sql(`${READ} title in ('message 30', 'message 15')`);
    await Promise.all([settled(here, 20), settled(there, 20)]);
    expect(here.store.get().unread).toBe(16);
    await front.cut();
    server.sql(`${send(4)}; ${READ} title = 'message 29'`);
    await front.open();
    await Promise.all([settled(here, 20), settled(there, 20)]);
    expect(there.store.get().unread).toBe(19);
    const reloaded = await load();
    expect(reloaded.store.get()).toEqual({ ...here.store.get(), loadMore: expect.any(Function) });
  });

  test("of a server that starts anew goes on", async () => {
    server.sql(send(30));
    const inbox = await load();
    await server.end("SIGKILL");
    server.sql(`${READ} title = 'message 1'; ${send(2)}`);
    await server.serve();
    await settled(inbox, 20);
    expect(inbox.store.get().unread).toBe(31);
  });

  test("without a user, or not enabled, asks for nothing and is empty; with a user it is that user's", async () => {
    server.sql(send(3));
    const client = open();
    for (const user of [undefined, null, ""]) {
      const { store, views } = watch(inboxStore(client, user));
      store.get().loadMore();
      expect(views).toEqual([store.getInitial()]);
      expect(store.get()).toMatchObject({ messages: [], unread: 0, hasMore: false, isLoading: false, isReady: false });
    }
    watch(inboxStore(client, 7, { enabled: false }));
    expect(client.state).toBe("idle");

    const of7 = watch(inboxStore(client, 7, { keepAlive: 0 }));
    await expect.poll(() => of7.store.get().unread).toBe(3);
    of7.leave();
    const of8 = watch(inboxStore(client, "8", { keepAlive: 0 }));
    expect(of8.store.get()).toMatchObject({ messages: [], unread: 0, isReady: false });
    await expect.poll(() => of8.store.get().isReady).toBe(true);
    expect(titles(of8.store.get())).toEqual(["of another"]);
    expect(of8.views.flatMap(({ messages }) => messages).every(({ user_id }) => user_id === 8)).toBe(true);
    expect(of7.store.get()).toMatchObject({ messages: [], unread: 0 });
  });

  test("is shared by those who ask for the same, until the last one has left", async () => {
    server.sql(send(9));
    const client = open();
    const ask = () => watch(inboxStore(client, 7, { limit: 3, keepAlive: 0 }));
    const [one, other] = [ask(), ask()];
    await expect.poll(() => one.store.get().isReady).toBe(true);
    expect(other.store.get()).toBe(one.store.get());
    expect((await server.status()).channels.inbox).toBe(2);
    one.store.get().loadMore();
    await settled(other, 6);
    one.leave();
    expect(other.store.get().messages).toHaveLength(6);
    other.leave();
    await expect.poll(() => client.state).toBe("idle");
    await expect.poll(async () => (await server.status()).connections).toBe(0);
  });

  test("may have another channel, other columns and another order", async () => {
    server.sql(`insert into mail (owner, seen, sent_at) values ('ann@example.com', null, '2024-01-02'), ('ann@example.com', '2024-02-01', '2024-01-03'),
      ('bob@example.com', null, '2024-01-04'), ('ann@example.com', null, '2024-01-01')`);
    const names = { channel: "mail", key: "mail_id", userColumn: "owner", readColumn: "seen", order: "sent_at.desc" } as const;
    const { store } = watch(inboxStore(open(), "ann@example.com", names));
    await expect.poll(() => store.get().isReady).toBe(true);
    expect(store.get().messages.map(({ sent_at }) => sent_at.slice(0, 10))).toEqual(["2024-01-03", "2024-01-02", "2024-01-01"]);
    expect(store.get().unread).toBe(2);
    server.sql("update mail set seen = now() where sent_at = '2024-01-01'");
    await expect.poll(() => store.get().unread).toBe(1);
  });

  test("that cannot be had says why", async () => {
    const client: Client<any> = open();
    for (const options of [{ readColumn: "nothing" }, { userColumn: "nothing" }, { order: "nothing" }]) {
      const { store } = watch(inboxStore(client, 7, options));
      await expect.poll(() => store.get().error).toMatchObject({ final: true });
      expect(store.get()).toMatchObject({ messages: [], unread: 0, isLoading: false, isReady: false });
    }
  });
});

describeWhere(missing(), "an inbox where tokens are checked", () => {
  const OWNER = "select rowcast.allow('inbox', 'owner', 'user_id=eq.{sub}')";
  let server: Server;
  let client: Client<Tables> | undefined;

  beforeAll(async () => {
    server = await Server.start({ tables: TABLES, watch: `${WATCH}; ${OWNER}`, env: SECRET });
  });
  afterAll(() => server?.stop());
  beforeEach(() => {
    server.sql(`${OWNER}; truncate inbox; ${send(4, 1)}`);
  });
  afterEach(() => client?.close());

  function open(sub: string) {
    client?.close();
    return (client = connect<Tables>(server.url, { WebSocket, token: () => jwt({ sub, role: "owner" }) }));
  }

  async function load(sub: string, user: number, options: InboxStoreOptions<Tables, "inbox"> = {}) {
    const { store } = watch(inboxStore(open(sub), user, options));
    await expect.poll(() => store.get().isReady).toBe(true);
    return store;
  }

  test("has the rows that the policy shows, whichever user is asked for", async () => {
    const own = await load("7", 7);
    expect(own.get().messages.map(({ title }) => title)).toEqual(["message 4", "message 3", "message 2", "message 1"]);
    expect(own.get().unread).toBe(3);
    server.sql(`${READ} title = 'message 4'; insert into inbox (user_id, title) values (8, 'of another')`);
    await expect.poll(() => own.get().unread).toBe(2);
    expect((await load("7", 8)).get()).toMatchObject({ messages: [], unread: 0, isExact: true });
  });

  test("needs no column of the user where the policy hides it", async () => {
    server.sql("select rowcast.allow('inbox', 'owner', 'user_id=eq.{sub}', '{inbox_id,title,read_at}')");
    const { store } = watch(inboxStore(open("7"), 7));
    await expect.poll(() => store.get().error).toMatchObject({ final: true });
    const own = await load("7", 7, { userColumn: false });
    expect(own.get().unread).toBe(3);
    expect(own.get().messages.at(-1)).toEqual({ inbox_id: expect.any(Number), title: "message 1", read_at: expect.any(String) });
    server.sql(`${READ} title = 'message 3'; insert into inbox (user_id, title) values (8, 'of another')`);
    await expect.poll(() => own.get().unread).toBe(2);
    expect(own.get().messages).toHaveLength(4);
  });

  test("of more unread messages than the server counts says so, until none is left", async () => {
    server.sql(send(10_001));
    const own = await load("7", 7);
    expect(own.get()).toMatchObject({ unread: 10_000, isExact: false, hasMore: true });
    server.sql(`${READ} user_id = 7`);
    await expect.poll(() => own.get().unread).toBe(0);
    expect(own.get()).toMatchObject({ isExact: true, hasMore: true });
    server.sql("insert into inbox (user_id, title) values (7, 'newest')");
    await expect.poll(() => own.get().messages[0]!.title).toBe("newest");
    expect(own.get()).toMatchObject({ unread: 1, isExact: true });
  });
});
