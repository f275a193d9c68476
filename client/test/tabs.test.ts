/** Tabs that share a socket. In a real browser, against a real server. */
import type { BrowserContext, CDPSession, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { bundle } from "./bundle.js";
import { Chromium, noChromium } from "./chromium.js";
import { Front } from "./front.js";
import { textOf } from "./pages/pet.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

interface Seen {
  changes: number[];
  told: string[];
  errors: string[];
}

/** For a leader that does not answer; the machine may be busy. */
const REPLACED = { timeout: 90_000 };

describeWhere(noChromium() ?? missing(), "tabs that share a socket", () => {
  let server: Server;
  let front: Front;
  let chromium: Chromium;
  let context: BrowserContext;
  /** the last change before the tabs were opened */
  let before: number;
  /** pages whose real socket is open */
  const leaders = new Set<Page>();

  beforeAll(async () => {
    const html = `<!doctype html><body><script type="module">${await bundle("pages/tabs.ts")}</script>`;
    server = await Server.start();
    front = new Front(() => server.port, { "/": html, "/other": "" });
    chromium = await Chromium.start();
    context = chromium.context;
  });
  afterAll(() => server?.stop());
  afterAll(() => chromium?.stop());

  const errors: string[] = [];
  beforeEach(async () => {
    await server.refill(30);
    await front.open();
    before = server.changesAfter(0).at(-1)!;
  });
  afterEach(async () => {
    for (const each of context.pages()) await each.close();
    await front.cut();
    expect(errors.splice(0)).toEqual([]);
  });

  /** Opens a tab that shows the pets of a user. `first` runs before anything else in it. */
  async function open(user: number, more = "", first = ""): Promise<Page> {
    const page = await context.newPage();
    await page.addInitScript(first);
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("websocket", (socket) => {
      leaders.add(page);
      socket.on("close", () => leaders.delete(page));
    });
    page.on("close", () => leaders.delete(page));
    await page.goto(`${front.url}/#user=${user}${more}`);
    await page.waitForSelector("body[data-ready]", { state: "attached" });
    return page;
  }

  const seen = (page: Page): Promise<Seen> => page.evaluate(() => (globalThis as any).seen);
  const connections = async () => (await server.status()).connections;

  /** Expects that a tab shows the pets of its user, and was told each change since and each notification, once. */
  async function expectAll(page: Page, user: number): Promise<void> {
    server.mark();
    const wanted = server.changesAfter(before);
    await expect.poll(async () => (await seen(page)).changes).toContain(wanted.at(-1));
    expect((await seen(page)).changes).toEqual(wanted);
    const text = textOf(server.pets(`user_id = ${user}`));
    await page.waitForFunction((text) => document.querySelector("pre")!.textContent === text, text, { polling: 20 });
    expect((await seen(page)).errors).toEqual([]);
  }

  const told = async (page: Page) => (await seen(page)).told;

  test("three tabs are one connection, and each has the rows that it asks for", async () => {
    const tabs = [await open(0), await open(1), await open(2)];
    expect(await connections()).toBe(1);
    server.sql("update pets set name = 'Luna' where pet_id < 20");
    server.sql("delete from pets where pet_id > 25");
    for (const [user, tab] of tabs.entries()) await expectAll(tab, user);
    expect(await connections()).toBe(1);
    // what a tab was subscribed to is left when it is closed
    const { channels } = await server.status();
    await tabs[2]!.close();
    await expect.poll(async () => (await server.status()).channels.pets).toBe(channels.pets! - 2);
    await expect.poll(async () => (await server.status()).channels).not.toHaveProperty("user/2");
  });

  test("windows are read through the socket of another tab, also their pages", async () => {
    server.sql("insert into pets select n, n % 2, 'pet ' || n % 7 from generate_series(31, 200) n");
    before = server.changesAfter(0).at(-1)!;
    const tabs = [await open(0, "&window"), await open(1, "&window"), await open(1, "&window")];
    expect(await connections()).toBe(1);
    const newest = (tab: Page): Promise<number[]> => tab.evaluate(() => (globalThis as any).newest.rows.map((pet: any) => pet.pet_id));
    const wanted = (user: number, limit: number): number[] => {
      const rows = `select pet_id from pets where user_id = ${user} order by name collate "C" desc, pet_id desc limit ${limit}`;
      return JSON.parse(server.sql(`select json_agg(pet_id) from (${rows}) p`));
    };
    const users = [0, 1, 1];
    for (const [i, tab] of tabs.entries()) await expect.poll(() => newest(tab)).toEqual(wanted(users[i]!, 2));
    await Promise.all(tabs.map((tab) => tab.evaluate(() => (globalThis as any).newest.loadMore(40))));
    server.sql("delete from pets where pet_id % 3 = 0; update pets set name = 'zz' where pet_id % 5 = 0");
    const cursor = server.sql("select rowcast.cursor()");
    const sync = (tab: Page) => tab.evaluate((cursor) => (globalThis as any).client.sync(cursor), cursor);
    await Promise.all(tabs.map(sync));
    for (const [i, ids] of (await Promise.all(tabs.map(newest))).entries()) expect(ids).toEqual(wanted(users[i]!, 42));
    await expect(tabs[1]!.evaluate(() => (globalThis as any).client.sync("nonsense"))).rejects.toThrow("cursor");
    for (const [i, tab] of tabs.entries()) await expectAll(tab, users[i]!);
  });

  /** The tab that has the socket, and the others. */
  function parted(tabs: Page[]): [Page, Page[]] {
    const leading = tabs.filter((tab) => leaders.has(tab));
    expect(leading).toHaveLength(1);
    return [leading[0]!, tabs.filter((tab) => tab !== leading[0])];
  }

  test("the tab with the socket is closed while rows change", async () => {
    const tabs = [await open(1), await open(1), await open(1)];
    const [leader, others] = parted(tabs);
    server.sql("update pets set name = 'before' where pet_id < 10");
    server.sql("select rowcast.notify('1', 'hello', '{\"name\": \"before\"}')");
    const closing = leader.close();
    server.sql("update pets set name = 'between' where pet_id < 20");
    server.sql("select rowcast.notify('1', 'hello', '{\"name\": \"between\"}')");
    await closing;
    server.sql("update pets set name = 'after' where pet_id > 20");
    for (const tab of others) await expectAll(tab, 1);
    // each tab has a bell: of pets of the user that were updated, and of what was said
    const rung = [...Array(4).fill("before"), ...Array(8).fill("between"), ...Array(3).fill("after")];
    for (const tab of others) await expect.poll(() => told(tab)).toEqual(rung);
    expect(await connections()).toBe(1);
    // the next one as well
    const [next, [last]] = parted(others);
    await next.close();
    server.sql("delete from pets where pet_id > 20");
    await expectAll(last!, 1);
    expect(await connections()).toBe(1);
  });

  test("the tab with the socket crashes", async () => {
    const tabs = [await open(0), await open(1), await open(2)];
    const [leader, others] = parted(tabs);
    const session = await context.newCDPSession(leader);
    void session.send("Page.crash").catch(() => {});
    server.sql("update pets set name = 'after' where pet_id > 10");
    for (const tab of others) await expectAll(tab, tabs.indexOf(tab));
  });

  test("the tab with the socket is frozen, and thaws", async () => {
    const tabs = [await open(1), await open(2)];
    const [leader, [other]] = parted(tabs);
    await other!.bringToFront();
    const session = await context.newCDPSession(leader);
    await session.send("Page.setWebLifecycleState", { state: "frozen" });
    server.sql("update pets set name = 'frozen' where pet_id < 20");
    await expectAll(other!, 2);
    expect(await connections()).toBe(1);
    await session.send("Page.setWebLifecycleState", { state: "active" });
    await leader.bringToFront();
    await expectAll(leader, 1);
    expect(await connections()).toBe(1);
  });

  /** Stops everything that a page does. Returns what lets it go on. */
  async function halt(page: Page): Promise<() => Promise<void>> {
    const session: CDPSession = await context.newCDPSession(page);
    const paused = new Promise((resolve) => session.once("Debugger.paused", resolve));
    await session.send("Debugger.enable");
    void session.send("Runtime.evaluate", { expression: "debugger" });
    await paused;
    return async () => {
      await session.send("Debugger.resume");
      await session.detach();
    };
  }

  test("the tab with the socket does not answer: another one takes over, and it comes back as one of the others", async () => {
    const tabs = [await open(0), await open(1), await open(2)];
    const [leader, others] = parted(tabs);
    const goOn = await halt(leader);
    server.sql("update pets set name = 'halted' where pet_id < 20");
    const wanted = server.changesAfter(before).at(-1);
    for (const tab of others) await expect.poll(async () => (await seen(tab)).changes, REPLACED).toContain(wanted);
    await goOn();
    for (const [user, tab] of tabs.entries()) await expectAll(tab, user);
    await expect.poll(connections).toBe(1);
  }, 240_000);

  test("a tab comes while the server is away, and the socket is lost for all at once", async () => {
    const tabs = [await open(0), await open(1)];
    await front.cut();
    server.sql("update pets set name = 'cut' where pet_id < 20");
    await front.open();
    tabs.push(await open(2));
    for (const [user, tab] of tabs.entries()) {
      server.mark();
      const text = textOf(server.pets(`user_id = ${user}`));
      await tab.waitForFunction((text) => document.querySelector("pre")!.textContent === text, text, { polling: 20 });
    }
    await expectAll(tabs[0]!, 0);
    await expectAll(tabs[1]!, 1);
    await expect.poll(connections).toBe(1);
  });

  test("back and forward", async () => {
    const tabs = [await open(1), await open(2)];
    const [leader, [other]] = parted(tabs);
    const gone = tabs.indexOf(leader) + 1;
    await leader.goto(`${front.url}/other`);
    server.sql("update pets set name = 'away' where pet_id < 20");
    await expectAll(other!, tabs.indexOf(other!) + 1);
    await leader.goBack({ waitUntil: "commit" });
    const text = textOf(server.pets(`user_id = ${gone}`));
    await leader.waitForFunction((text) => document.querySelector("pre")?.textContent === text, text, { polling: 20 });
    await expect.poll(connections).toBe(1);
  });

  test("the server no longer answers on the socket: all tabs get another one", async () => {
    const tabs = [await open(0), await open(1)];
    front.hush();
    server.sql("update pets set name = 'hushed' where pet_id < 20");
    // as the browser does when the tab comes to the front
    await tabs[1]!.evaluate(() => (globalThis as any).client.wake());
    for (const [user, tab] of tabs.entries()) await expectAll(tab, user);
    await front.cut();
    await front.open();
    for (const [user, tab] of tabs.entries()) await expectAll(tab, user);
    await expect.poll(connections).toBe(1);
  });

  test("a tab that was closed for a while, in a storage that it shares: each goes on where it was itself", async () => {
    const tabs = [await open(1, "&storage"), await open(1, "&storage")];
    for (const tab of tabs) await expectAll(tab, 1);
    const [first, other] = tabs as [Page, Page];
    const had = (await seen(first)).changes;
    await first.goto(`${front.url}/other`);
    server.sql("update pets set name = 'away' where pet_id < 20");
    await expectAll(other, 1);
    await first.goto(`${front.url}/#user=1&storage`);
    await first.waitForSelector("body[data-ready]", { state: "attached" });
    server.mark();
    const wanted = server.changesAfter(before);
    await expect.poll(async () => (await seen(first)).changes).toContain(wanted.at(-1));
    expect([...had, ...(await seen(first)).changes]).toEqual(wanted);
    expect((await seen(first)).errors).toEqual([]);
  });

  test("two clients of one tab, and a tab without the socket that leaves a client", async () => {
    const tab = await open(1);
    await tab.evaluate(() => {
      const { SharedSocket, connect } = globalThis as any;
      const second = connect("/", { WebSocket: SharedSocket });
      (globalThis as any).second = second;
      return second.collection("pets", { key: "pet_id", filter: "user_id=eq.2" }).ready;
    });
    expect(await connections()).toBe(1);
    // the socket was opened for the first one; the second one keeps it
    await tab.evaluate(() => (globalThis as any).client.close());
    await expect.poll(async () => (await server.status()).channels).toMatchObject({ pets: 1 });
    expect(await connections()).toBe(1);
    await tab.evaluate(() => (globalThis as any).second.close());
    await expect.poll(connections).toBe(0);
  });

  test("bells of one user share too, each from its own place; those with places that nobody remembers share another socket", async () => {
    const say = (name: string) => server.sql(`select rowcast.notify('1', 'hello', '{"name": "${name}"}')`);
    const place = (tab: Page): Promise<string> => tab.evaluate(() => (globalThis as any).bell.cursor);
    const first = await open(1);
    const old = await place(first);
    await first.close();
    await expect.poll(connections).toBe(0);
    say("Luna");
    const second = await open(1);
    const later = await place(second);
    say("Rex");
    await expect.poll(() => told(second)).toEqual(["Rex"]);
    const third = await open(1, `&since=${later}`);
    expect(await told(third)).toEqual(["Rex"]);
    const latest = await open(1, `&since=${await place(second)}`);
    expect(await told(latest)).toEqual([]);
    expect(await connections()).toBe(1);
    const fourth = await open(1, `&since=${old}`);
    await expect.poll(() => told(fourth)).toEqual(["Luna", "Rex"]);
    const fifth = await open(1, `&since=${old}`);
    await expect.poll(() => told(fifth)).toEqual(["Luna", "Rex"]);
    expect(await connections()).toBe(2);
    say("Mia");
    const wanted = [["Rex", "Mia"], ["Rex", "Mia"], ["Mia"], ["Luna", "Rex", "Mia"], ["Luna", "Rex", "Mia"]];
    for (const [n, tab] of [second, third, latest, fourth, fifth].entries()) {
      await expect.poll(() => told(tab)).toEqual(wanted[n]);
      expect((await seen(tab)).errors).toEqual([]);
    }
  });

  test("a tab that comes to a socket that is dead does not wait behind it", async () => {
    await open(0);
    front.hush();
    const began = performance.now();
    await open(1);
    // without a question to the server when it came it would be 30 s and more
    expect(performance.now() - began).toBeLessThan(29_000);
  });

  test("a tab for which the socket has no room shares a second one", async () => {
    const restart = async (env: Record<string, string>) => {
      await server.end("SIGTERM");
      Object.assign(server.setup.env, env);
      await server.serve();
    };
    // a page has three
    await restart({ ROWCAST_MAX_SUBSCRIPTIONS: "3" });
    const tabs = [await open(0), await open(1)];
    expect(await connections()).toBe(2);
    server.sql("update pets set name = 'Luna'");
    for (const [user, tab] of tabs.entries()) await expectAll(tab, user);
    await restart({ ROWCAST_MAX_SUBSCRIPTIONS: "2500" });
  });

  test.each([
    ["has no locks", "undefined"],
    ["gives this page none", "{ request: () => Promise.reject(new DOMException('', 'SecurityError')) }"],
  ])("where the browser %s each tab has its own socket", async (_, value) => {
    const first = `Object.defineProperty(navigator, "locks", { value: ${value} })`;
    const tabs = [await open(0, "", first), await open(1, "", first)];
    expect(await connections()).toBe(2);
    for (const [user, tab] of tabs.entries()) await expectAll(tab, user);
  });
});
