/** The hooks: rendered on a server, and in a real browser against a real server. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Page } from "playwright-core";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { connect } from "../src/index.js";
import { useCollection, useInbox, useNotifications, useWindow } from "../src/react.js";
import { bundle } from "./bundle.js";
import { Chromium, noChromium } from "./chromium.js";
import { Front } from "./front.js";
import { App, Pets, type seen } from "./pages/hooks.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

test("a server that renders opens nothing and keeps nothing", () => {
  setFlagsFromString("--expose-gc");
  const gc: () => void = runInNewContext("gc");
  const client = connect("/");
  function Page({ user }: { user: number }) {
    const { rows } = useCollection(client, "pets", { key: "pet_id", filter: `user_id=eq.${user}` });
    const newest = useWindow(client, "pets", { key: "pet_id", order: "pet_id.desc", limit: 10, filter: `user_id=eq.${user}` });
    const inbox = useInbox(client, user, { channel: "inbox" });
    return `${rows.length + newest.rows.length + inbox.messages.length + inbox.unread} ${useNotifications(client, user).notifications.length}`;
  }
  const render = (from: number, to: number) => {
    for (let user = from; user < to; user++) expect(renderToString(createElement(Page, { user }))).toBe("0 0");
    gc();
    return process.memoryUsage().heapUsed;
  };
  const initial = { cursor: "1A", rows: [{ pet_id: 1, name: "Luna" }] };
  const Rendered = () => useCollection(client, "pets", { key: "pet_id", initial }).rows.map(({ name }) => name).join();
  expect(renderToString(createElement(Rendered))).toBe("Luna");
  const before = render(0, 2_000);
  expect((render(2_000, 12_000) - before) / 10_000).toBeLessThan(100);
  expect(client.state).toBe("idle");
});

describeWhere(noChromium() ?? missing(), "React in a browser", () => {
  let server: Server;
  let front: Front;
  let chromium: Chromium;
  let page: Page;
  const errors: string[] = [];

  beforeAll(async () => {
    const script = await bundle("pages/hooks.tsx");
    server = await Server.start();
    const late = renderToString(<Pets client={connect("/")} user="1" />);
    const main = renderToString(<App client={connect("/")} />);
    const html = `<!doctype html><body><main>${main}</main><aside>${late}</aside><script type="module">${script}</script>`;
    front = new Front(() => server.port, { "/": html, "/favicon.ico": "" });
    chromium = await Chromium.start();
  });
  afterAll(() => server?.stop());
  afterAll(() => chromium?.stop());

  beforeEach(async () => {
    await server.refill(9);
    await front.open();
    page = await chromium.context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(front.url);
    await page.waitForFunction(() => (globalThis as any).seen?.states.length > 1);
  });
  afterEach(async () => {
    await page.close();
    await front.cut();
    expect(errors.splice(0)).toEqual([]);
  });

  const look = (): Promise<typeof seen> => page.evaluate(() => (globalThis as any).seen);
  const shows = (element: string, text: string) => expect.poll(() => page.textContent(element)).toBe(text);
  const ask = async () => {
    const { sent } = await look();
    return sent.map(({ type, channel, filter }) => [type, channel, filter].filter(Boolean).join(" "));
  };

  test("what is not enabled yet asks for nothing, and no rows of another filter are shown", async () => {
    expect(await page.textContent("main pre")).toBe("");
    expect(await look()).toMatchObject({ sent: [], states: expect.not.arrayContaining(["connecting"]) });
    expect((await server.status()).connections).toBe(0);
    await page.fill("input", "1");
    await shows("main pre", "pet 1,pet 4,pet 7");
    await page.fill("input", "2");
    await shows("main pre", "pet 2,pet 5,pet 8");
    await page.fill("input", "");
    await shows("main pre", "");
    for (const { user, owners, isReady } of (await look()).pets) {
      expect(owners).toEqual(owners.map(() => Number(user)));
      if (owners.length === 0) expect(isReady).toBe(false);
    }
  });

  test("views come and go without a word to the server, and show at once what is current", async () => {
    await page.fill("input", "1");
    await page.waitForSelector("main pre[data-ready=true]");
    await page.waitForSelector("#bell[data-ready=true]");
    const asked = await ask();
    expect([...asked].sort()).toEqual(["subscribe pets user_id=eq.1", "subscribe user/1"]);
    for (let count = 0; count < 3; count++) {
      await page.click("#elsewhere");
      await page.waitForSelector("p");
      server.sql(`insert into pets values (${count + 20}, 1, 'new ${count}')`);
      // what the bell was told, the list was told before
      await expect.poll(() => page.textContent("#bell")).toMatch("pet_created".concat(count ? ",pet_created" : ""));
      const before = (await look()).pets.length;
      await page.click("#elsewhere");
      await page.waitForSelector("main pre");
      const first = (await look()).pets[before]!;
      expect(first).toMatchObject({ user: "1", isReady: true });
      expect(first.owners.length).toBeGreaterThanOrEqual(3 + count);
      await expect.poll(() => page.textContent("main pre")).toContain(`new ${count}`);
    }
    expect(await ask()).toEqual(asked);
  });

  test("a part of the page that is hydrated late begins as the server rendered it", async () => {
    await page.fill("input", "1");
    await page.waitForSelector("main pre[data-ready=true]");
    const before = (await look()).pets.length;
    await page.evaluate(() => (globalThis as any).hydrateLate());
    await shows("aside pre", "pet 1,pet 4,pet 7");
    expect((await look()).pets[before]).toEqual({ user: "1", owners: [], isReady: false });
  });

  test("a user's notifications are shown, the newest of them, until they were seen", async () => {
    await page.fill("input", "2");
    await page.waitForSelector("#bell[data-ready=true]");
    server.sql("insert into pets values (30, 2, 'Luna'), (31, 1, 'of another')");
    await shows("#bell", "pet_created");
    server.sql("update pets set name = 'Rex' where pet_id = 30");
    await shows("#bell", "pet_updated,pet_created");
    server.sql("delete from pets where pet_id = 30");
    await shows("#bell", "pet_deleted,pet_updated");
    await page.click("#bell");
    await shows("#bell", "");
    await page.fill("input", "1");
    await page.waitForSelector("#bell[data-ready=true]");
    await shows("#bell", "");
  });

  test("a window shows more rows when somebody asks for them", async () => {
    await page.click("#newest");
    await shows("section b", "9,8");
    await page.click("section button");
    await shows("section b", "9,8,7,6");
    server.sql("delete from pets where pet_id = 8; insert into pets values (10, 1, 'new')");
    await shows("section b", "10,9,7,6");
    for (let count = 0; count < 3; count++) await page.click("section button");
    await shows("section b", "10,9,7,6,5,4,3,2,1");
    expect(await page.locator("section button").count()).toBe(0);
  });

  test("an inbox shows a user's messages and how many are unread, and none of the user before", async () => {
    await page.click("#inbox");
    await shows("nav i", "0");
    await page.fill("input", "1");
    await shows("nav b", "7 of 1,4 of 1");
    server.sql("insert into pets values (30, 1, null), (31, 2, null); update pets set name = null where pet_id = 1");
    await shows("nav b", "30 of 1,7 of 1");
    await shows("nav i", "2");
    await page.click("nav button");
    await shows("nav b", "30 of 1,7 of 1,4 of 1,1 of 1");
    server.sql("update pets set name = 'read' where pet_id in (1, 30)");
    await shows("nav i", "0");
    await page.fill("input", "2");
    await shows("nav b", "31 of 2,8 of 2");
    await shows("nav i", "1");
    await page.fill("input", "");
    await shows("nav b", "");
    await shows("nav i", "0");
  });

  test("a connection that stays away is shown", async () => {
    await page.fill("input", "1");
    await shows("output", "live");
    await front.cut();
    await shows("output", "connecting");
    await front.open();
    await expect.poll(() => page.textContent("output")).toBe("live");
    errors.splice(0); // the browser's, of sockets that it could not open
  });
});
