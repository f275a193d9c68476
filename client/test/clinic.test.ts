/** The page web/clinic.html in a real browser, on the clinic of the demo. */
import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Chromium, noChromium } from "./chromium.js";
import { Front } from "./front.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

describeWhere(noChromium() ?? missing(), "the clinic's page", () => {
  let server: Server;
  let front: Front;
  let chromium: Chromium;
  let page: Page;

  beforeAll(async () => {
    const tables = read("sql/clinic/schema.sql") + read("sql/clinic/seed.sql");
    server = await Server.start({ tables, watch: read("sql/clinic/watch.sql") });
    // some were seen this evening, whenever that is
    server.sql("update pets set weight_kg = weight_kg where updated_at > now()");
    const [html, script, rowcast] = ["clinic.html", "clinic.js", "rowcast.js"].map((name) => read(`web/${name}`));
    front = new Front(() => server.port, { "/clinic": html!, "/clinic.js": script!, "/rowcast.js": rowcast! });
    await front.open();
    chromium = await Chromium.start();
  });
  afterAll(() => front?.cut());
  afterAll(() => server?.stop());
  afterAll(() => chromium?.stop());

  let errors: string[];
  const requests = new Set<string>();
  /** the channels that the page has joined */
  const subscribed = new Set<string>();

  beforeEach(async () => {
    errors = [];
    page = await chromium.context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    page.on("request", (request) => requests.add(request.url()));
    page.on("websocket", (socket) =>
      socket.on("framereceived", ({ payload }) => {
        const { type, channel } = JSON.parse(String(payload));
        if (type === "subscribed") subscribed.add(channel);
      }),
    );
    await page.goto(`${front.url}/clinic`);
    await state("live");
    await expect.poll(() => texts("#reservations li")).toHaveLength(Number(count("reservations", OPEN)));
  });
  afterEach(async () => {
    await page.close();
    expect(errors).toEqual([]);
  });

  const FORMAT = { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit" } as const;
  const OPEN = "status in ('requested', 'confirmed', 'in_progress')";
  const count = (table: string, where = "true") => server.sql(`select count(*) from ${table} where ${where}`);
  const texts = (selector: string) => page.locator(selector).allTextContents();
  const bell = (name: string) => page.getByRole("button", { name, exact: true });

  /** Picks a user. Returns when the server tells of the notifications. */
  async function pick(user: number): Promise<void> {
    subscribed.clear();
    await page.getByLabel("User").selectOption(String(user));
    await expect.poll(() => [...subscribed]).toContain(`user/${user}`);
  }

  async function state(text: string): Promise<void> {
    await expect.poll(() => page.locator("#state").textContent(), { timeout: 15_000 }).toBe(text);
  }

  test("the rows are there, and all of it comes from this server", async () => {
    expect(await texts("#pets li")).toHaveLength(Number(count("pets")));
    expect(await page.getByRole("heading").allTextContents()).toEqual([
      "Clinic",
      `Pets ${count("pets")}`,
      `Open reservations ${count("reservations", OPEN)}`,
    ]);
    const times = server.sql(`select json_agg(starts_at order by starts_at) from reservations where ${OPEN}`);
    const shown = (JSON.parse(times) as string[]).map((time) => new Date(time).toLocaleString("en-US", FORMAT));
    expect(await texts("#reservations strong")).toEqual(shown);
    const names = server.sql("select p.name, u.name from pets p join users u using (user_id) where pet_id = 1");
    const [name, owner] = names.split("|");
    expect(await page.getByRole("listitem").filter({ hasText: name }).filter({ hasText: owner }).count()).not.toBe(0);
    expect(await page.locator(".changed").count()).toBe(0);
    const files = ["/clinic", "/clinic.js", "/rowcast.js"].map((path) => front.url + path);
    expect([...requests].filter((url) => url !== "data:,").sort()).toEqual(files);
  });

  test("a change is shown at once, marked, and alone moves", async () => {
    const kept = await page.evaluateHandle(() => [...document.querySelectorAll("li")]);
    server.sql("update pets set name = 'Zorro', weight_kg = 7.5 where pet_id = 7");
    const first = page.locator("#pets li").first();
    await expect.poll(() => first.textContent()).toMatch(/^Zorro7\.5 kg/);
    expect(await texts("#pets .changed strong")).toEqual(["Zorro"]);
    expect(await first.evaluate((item) => item.getAnimations().length)).toBe(1);
    await expect.poll(() => first.evaluate((item) => item.getAnimations().length), { timeout: 3_000 }).toBe(0);
    expect(await kept.evaluate((items) => items.every((item) => item.isConnected))).toBe(true);

    server.sql("insert into pets (user_id, name, species) values (1, 'Newton', 'tortoise')");
    await expect.poll(() => first.textContent()).toMatch(/^Newton.*tortoise/);
    server.sql("delete from pets where name = 'Newton'");
    await expect.poll(() => first.textContent()).toMatch(/^Zorro/);
  });

  test("a reservation that is done leaves, and names follow their own tables", async () => {
    const done = "where reservation_id = (select min(reservation_id) from reservations where status = 'in_progress')";
    const before = Number(count("reservations", OPEN));
    server.sql(`update reservations set status = 'completed' ${done}`);
    await expect.poll(() => texts("#reservations li")).toHaveLength(before - 1);
    server.sql("update users set name = 'Nemo Nobody'");
    await expect.poll(() => page.locator("#reservations small", { hasNotText: "Nemo" }).count()).toBe(0);
    expect(new Set(await texts("#user option"))).toEqual(new Set(["Nemo Nobody"]));
  });

  test("the bell is that of the user who was picked", async () => {
    await pick(5);
    server.sql("select rowcast.notify('6', 'other', '{}')");
    server.sql("update reservations set starts_at = now() where user_id = 6");
    server.sql("insert into invoices (user_id, total) values (5, 58)");
    await expect.poll(() => bell("Notifications, 1 unread").count()).toBe(1);
    expect(await page.locator("#spoken").textContent()).toBe("invoice created 58");

    await bell("Notifications, 1 unread").focus();
    await page.keyboard.press("Enter");
    await expect.poll(() => page.locator("#told").isVisible()).toBe(true);
    expect(await texts("#told strong")).toEqual(["invoice created"]);
    // a popover says that it was opened a moment after it is
    await expect.poll(() => bell("Notifications").count()).toBe(1);
    server.sql("insert into pets (user_id, name, species) values (5, 'Ivy', 'cat')");
    await expect.poll(() => texts("#told small")).toEqual(["Ivy", "58"]);
    await page.keyboard.press("Escape");
    await expect.poll(() => page.locator("#told").isVisible()).toBe(false);

    await pick(6);
    server.sql("insert into invoices (user_id, total) values (5, 59), (6, 60)");
    await expect.poll(() => bell("Notifications, 1 unread").count()).toBe(1);
    expect(await page.locator("#told li").count()).toBe(1);
  });

  test("a user who goes is no longer picked", async () => {
    const values = "('A. First', 'a@b', '') returning user_id";
    const id = server.sql(`insert into users (name, email, password_hash) values ${values}`);
    await expect.poll(() => texts("#user option")).toContain("A. First");
    await pick(Number(id));
    server.sql(`delete from users where user_id = ${id}`);
    await expect.poll(() => texts("#user option")).not.toContain("A. First");
    expect(await page.locator("#user").inputValue()).not.toBe(id);
    expect(await page.locator("#user").inputValue()).not.toBe("");
  });

  test("a phone, a desk, and the keyboard", async () => {
    for (const width of [400, 1400]) {
      await page.setViewportSize({ width, height: 800 });
      expect(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)).toBe(false);
    }
    await page.locator("body").focus();
    const stops = [];
    for (let i = 0; i < 4; i++) {
      await page.keyboard.press("Tab");
      stops.push(await page.evaluate(() => document.activeElement!.id));
    }
    expect(stops).toEqual(["user", "bell", "pets", "reservations"]);
    expect(read("web/clinic.html")).not.toMatch(/\son\w+\s*=/);
  });

  test("the state says when the source is down, and when the server is gone", async () => {
    server.admit(false);
    await state("the source is down");
    server.admit(true);
    await state("live");
    expect(errors).toEqual([]);
    await server.end("SIGKILL");
    await state("reconnecting");
    await server.serve();
    server.sql("update pets set name = 'Back' where pet_id = 1");
    await state("live");
    await expect.poll(() => texts("#pets strong")).toContain("Back");
    // a browser reports each attempt that fails
    errors = errors.filter((error) => !error.startsWith("WebSocket connection"));
  });
});
