/** Tabs that share a socket where tokens are checked: who shares with whom. In a real browser, against a real server. */
import type { BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { bundle } from "./bundle.js";
import { Chromium, noChromium } from "./chromium.js";
import { Front } from "./front.js";
import { jwt, SECRET } from "./jwt.js";
import { textOf } from "./pages/pet.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

const WATCH =
  "select rowcast.watch('public.pets', user_rule => 'user_id'); " +
  "select rowcast.allow('pets', 'owner', 'user_id=eq.{sub}'), rowcast.allow('pets', 'vet'), rowcast.allow('user/*', 'vet')";

describeWhere(noChromium() ?? missing(), "tabs where tokens are checked", () => {
  let server: Server;
  let front: Front;
  let chromium: Chromium;
  let context: BrowserContext;
  /** real sockets that are open */
  let sockets: number;
  /** commands that went to the server with a token */
  let renewals: number;
  /** those that it believed */
  let renewed: number;
  /** tokens that pages have asked for, by path */
  const asked: Record<string, number> = {};
  /** what they are given */
  let token: (path: string, n: number) => string;

  beforeAll(async () => {
    const html = `<!doctype html><body><script type="module">${await bundle("pages/tabs.ts")}</script>`;
    server = await Server.start({ watch: WATCH, env: { ...SECRET, ROWCAST_JWT_LEEWAY_SECONDS: "0" } });
    const pages: Record<string, string> = { "/": html };
    for (const path of ["/one", "/other"]) {
      Object.defineProperty(pages, path, { get: () => token(path, (asked[path] = (asked[path] ?? 0) + 1)) });
    }
    front = new Front(() => server.port, pages);
    chromium = await Chromium.start();
    context = chromium.context;
  });
  afterAll(() => server?.stop());
  afterAll(() => chromium?.stop());

  const errors: string[] = [];
  beforeEach(async () => {
    await server.refill(9, jwt({ role: "vet" }));
    await front.open();
    sockets = renewals = renewed = 0;
    for (const path of Object.keys(asked)) delete asked[path];
  });
  afterEach(async () => {
    for (const each of context.pages()) await each.close();
    await front.cut();
    expect(errors.splice(0)).toEqual([]);
  });

  async function open(user: number, path: string, more = ""): Promise<Page> {
    const page = await context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("websocket", (socket) => {
      sockets++;
      socket.on("framesent", ({ payload }) => String(payload).includes('"auth"') && renewals++);
      socket.on("framereceived", ({ payload }) => String(payload).includes('"authenticated"') && renewed++);
      socket.on("close", () => sockets--);
    });
    await page.goto(`${front.url}/#user=${user}&token=${path}${more}`);
    await page.waitForSelector("body[data-ready]", { state: "attached" });
    return page;
  }

  async function untilShown(page: Page, where: string): Promise<void> {
    const text = textOf(server.pets(where));
    await page.waitForFunction((text) => document.querySelector("pre")!.textContent === text, text, { polling: 20 });
  }

  const changes = (page: Page): Promise<number[]> => page.evaluate(() => (globalThis as any).seen.changes);

  test("two users have a socket each, and neither is told of the other's rows", async () => {
    token = (path) => jwt({ sub: path === "/one" ? "1" : "2", role: "owner" });
    const [one, other] = [await open(1, "/one"), await open(2, "/other")];
    expect(sockets).toBe(2);
    const before = server.changesAfter(0).at(-1)!;
    server.sql("update pets set name = 'Luna' where user_id = 1; update pets set name = 'Rex' where user_id = 2");
    await untilShown(one, "user_id = 1");
    await untilShown(other, "user_id = 2");
    const ids = server.changesAfter(before);
    expect(await changes(one)).toEqual(ids.slice(0, 3));
    expect(await changes(other)).toEqual(ids.slice(3));
  });

  test("a role of the same user has a socket of its own", async () => {
    token = (path) => jwt({ sub: "1", role: path === "/one" ? "owner" : "vet" });
    const [one, other] = [await open(1, "/one"), await open(1, "/other")];
    expect(sockets).toBe(2);
    server.sql("update pets set name = 'Luna'");
    await expect.poll(() => changes(other)).toHaveLength(9);
    expect(await changes(one)).toHaveLength(3);
  });

  test("tokens of one user that were issued at different times share, and one of the next ones is enough", async () => {
    // the first token of each tab lives for seconds, in which the second tab has to come
    token = (_, n) => jwt({ sub: "1", role: "owner" }, n === 1 ? 20 : 600);
    const tabs = [await open(1, "/one"), await open(1, "/other")];
    expect(sockets).toBe(1);
    await expect.poll(() => asked).toEqual({ "/one": 2, "/other": 2 });
    await expect.poll(() => renewed).toBe(1);
    server.sql("update pets set name = 'Luna'");
    for (const tab of tabs) {
      await untilShown(tab, "user_id = 1");
      expect(await changes(tab)).toHaveLength(3);
    }
    expect([sockets, renewals, renewed]).toEqual([1, 1, 1]);
  });

  test("a tab whose next token says something else leaves the others", async () => {
    token = (path, n) => jwt({ sub: "1", role: path === "/one" && n > 1 ? "vet" : "owner" }, n === 1 ? 20 : 600);
    const [one, other] = [await open(1, "/one"), await open(1, "/other")];
    expect(sockets).toBe(1);
    await expect.poll(() => sockets).toBe(2);
    // it follows there, with other rights: what changed before that is not told
    await expect.poll(() => one.evaluate(() => (globalThis as any).seen.errors)).toContain("policy");
    server.sql("update pets set name = 'Luna' where user_id = 2; update pets set name = 'Rex' where user_id = 1");
    await expect.poll(async () => (await changes(one)).length).toBe(6);
    await untilShown(other, "user_id = 1");
    expect(await changes(other)).toHaveLength(3);
  });

  test("a token that is a text ends its own tab, also with the socket of all: the others go on with theirs", async () => {
    const claims = { sub: "1", role: "owner" };
    const first = await open(1, "", `&text=${jwt(claims)}`);
    // of a time to come, so that only the other one is revoked
    const other = await open(1, "", `&text=${jwt({ ...claims, iat: Date.now() / 1_000 + 600 })}`);
    expect(sockets).toBe(1);
    const told = (page: Page): Promise<string[]> => page.evaluate(() => (globalThis as any).seen.errors);
    const before = server.changesAfter(0).at(-1)!;
    // the server closes the socket with 4401, as when the token that opened it expires
    server.sql("select rowcast.revoke('1')");
    await expect.poll(() => told(first)).toContain("unauthenticated");
    server.sql("update pets set name = 'Luna' where user_id = 1");
    await untilShown(other, "user_id = 1");
    expect(await changes(other)).toEqual(server.changesAfter(before));
    expect(await told(other)).toEqual([]);
    // the first one is told nothing more, and does not come back
    expect(await changes(first)).toEqual([]);
    expect(await first.evaluate(() => (globalThis as any).client.state)).toBe("idle");
    await expect.poll(() => sockets).toBe(1);
  });
});
