/** The page web/clinic.html in a real browser, on the clinic of the demo. */
import { execSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { axe } from "./axe.js";
import { Chromium, noChromium } from "./chromium.js";
import { Demo } from "./demo.js";
import { Front } from "./front.js";
import { missing, programs, Server } from "./server.js";
import { describeWhere } from "./where.js";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

describeWhere(noChromium() ?? missing(), "the clinic's page", () => {
  let server: Server;
  let front: Front;
  let chromium: Chromium;
  let page: Page;

  beforeAll(async () => {
    const tables = ["schema", "seed", "archive"].map((name) => read(`sql/clinic/${name}.sql`)).join("");
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
  /** how much has come over the page's sockets */
  let received = 0;

  beforeEach(async () => {
    errors = [];
    received = 0;
    page = await chromium.context.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      // rowcast serve has no application that the page could ask
      const isExpected = message.location().url.endsWith("/clinic/psql");
      if (message.type() === "error" && !isExpected) errors.push(message.text());
    });
    page.on("request", (request) => requests.add(request.url()));
    page.on("websocket", (socket) =>
      socket.on("framereceived", ({ payload }) => {
        received += Buffer.byteLength(payload);
        const { type, channel } = JSON.parse(String(payload));
        if (type === "subscribed") subscribed.add(channel);
      }),
    );
    await page.goto(`${front.url}/clinic`);
    await state("live");
    await expect.poll(() => size("reservations")).toBe(count("reservations", OPEN));
    await expect.poll(() => size("past")).not.toBe("");
  });
  afterEach(async () => {
    await page.close();
    expect(errors).toEqual([]);
  });

  const FORMAT = { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit" } as const;
  const LONG_AGO = { day: "numeric", month: "short", year: "numeric", hour: "numeric", minute: "2-digit" } as const;
  const today = new Date(new Date().setHours(0, 0, 0, 0)).toISOString();
  const OPEN = `status in ('requested', 'confirmed', 'in_progress') and starts_at >= '${today}'`;
  const PAST = `starts_at < '${today}'`;
  /** the key of a row of a list */
  const nth = (n: number, table: string, order: string) =>
    server.sql(`select ${table.slice(0, -1)}_id from ${table} ${order} offset ${n} limit 1`);
  /** the times of the first rows of a list, as the page has to show them */
  const times = (what: string, limit: number, format: Intl.DateTimeFormatOptions) => {
    const rows = server.sql(`select json_agg(starts_at) from (select starts_at from reservations ${what} limit ${limit}) t`);
    return (JSON.parse(rows) as string[]).map((time) => new Date(time).toLocaleString("en-US", format));
  };
  const openTimes = () => times(`where ${OPEN} order by starts_at`, 20, FORMAT);
  const pastTimes = (limit = 20) => times(`where ${PAST} order by starts_at desc`, limit, LONG_AGO);
  const count = (table: string, where = "true") => server.sql(`select count(*) from ${table} where ${where}`);
  const size = (id: string) => page.locator(`#${id}-size`).textContent();
  const texts = (selector: string) => page.locator(selector).allTextContents();
  const bell = (name: string) => page.getByRole("button", { name, exact: true });

  /** Picks a user. Returns when the server tells of the inbox. */
  async function pick(user: number): Promise<void> {
    if ((await page.locator("#user").inputValue()) === String(user)) return;
    subscribed.clear();
    await page.getByLabel("User").selectOption(String(user));
    await expect.poll(() => [...subscribed]).toContain("inbox");
  }

  /** Whether the rows look old. */
  const isStale = async () => {
    const isSaid = await page.locator("#stale").isVisible();
    const [row, quiet] = await page.evaluate(() =>
      ["#pets li strong", "#pets li small"].map((each) => getComputedStyle(document.querySelector(each)!).color),
    );
    expect(row === quiet).toBe(isSaid);
    return isSaid;
  };

  async function state(text: string): Promise<void> {
    await expect.poll(() => page.locator("#state").textContent()).toBe(text);
  }

  test("the rows are there, and all of it comes from this server", async () => {
    for (const id of ["pets", "reservations", "past"]) expect(await texts(`#${id} li`)).toHaveLength(20);
    expect(await page.getByRole("heading").allTextContents()).toEqual([
      "Clinic",
      `Pets ${count("pets")}`,
      `Open reservations ${count("reservations", OPEN)}`,
      expect.stringMatching(/^Past visits about \d+,\d{3}$/),
    ]);
    expect(await texts("#reservations strong")).toEqual(openTimes());
    expect(await texts("#past strong")).toEqual(pastTimes());
    const latest = "order by updated_at desc, pet_id desc limit 1";
    const [name, owner] = server.sql(`select p.name, u.name from pets p join users u using (user_id) ${latest}`).split("|");
    const first = page.locator("#pets li").first();
    for (const part of [name!, owner!]) expect(await first.textContent()).toContain(part);
    expect(await page.locator(".changed").count()).toBe(0);
    const files = ["/clinic", "/clinic.js", "/clinic/psql", "/rowcast.js"].map((path) => front.url + path);
    const asked = [...requests].filter((url) => url !== "data:," && !url.endsWith("/healthz"));
    expect(asked.sort()).toEqual(files);
    // nothing here writes for a page
    expect(await page.locator("#write").isVisible()).toBe(false);
    expect((await fetch(`${server.url}/clinic/weigh/1`, { method: "POST" })).status).toBe(405);
  });

  test("a change is shown at once, marked, and alone moves", async () => {
    const kept = await page.evaluateHandle(() => [...document.querySelectorAll("li")]);
    const seventh = nth(7, "pets", "order by updated_at desc, pet_id desc");
    server.sql(`update pets set name = 'Zorro', weight_kg = 7.5 where pet_id = ${seventh}`);
    const first = page.locator("#pets li").first();
    await expect.poll(() => first.textContent()).toMatch(/^Zorro7\.5 kg/);
    expect(await texts("#pets .changed strong")).toEqual(["Zorro"]);
    expect(await first.evaluate((item) => item.getAnimations().length)).toBe(1);
    expect(await texts("#pets .changed .other")).toEqual(["Zorro", "7.5 kg"]);
    expect(await page.locator("#last").textContent()).toMatch(/^Last write: pets, updated by test\/psql at /);
    await expect.poll(() => first.evaluate((item) => item.getAnimations().length), { timeout: 60_000 }).toBe(0);
    expect(await kept.evaluate((items) => items.every((item) => item.isConnected))).toBe(true);

    server.sql("insert into pets (user_id, name, species) values (1, 'Newton', 'tortoise')");
    await expect.poll(() => first.textContent()).toMatch(/^Newton.*tortoise/);
    server.sql("delete from pets where name = 'Newton'");
    await expect.poll(() => first.textContent()).toMatch(/^Zorro/);
  });

  test("of 100,000 reservations those come that are shown", async () => {
    expect(Number(count("reservations"))).toBeGreaterThan(100_000);
    expect(received).toBeGreaterThan(10_000);
    expect(received).toBeLessThan(500_000);
    const about = Number((await size("past"))!.replace(/\D/g, ""));
    expect(Math.abs(about / Number(count("reservations", PAST)) - 1)).toBeLessThan(0.1);
  });

  test("at its end a list goes on, and by its button, and what comes does not glow", async () => {
    for (const shown of [40, 60]) {
      await page.locator("#past").evaluate((list) => list.scrollTo(0, list.scrollHeight));
      await expect.poll(() => texts("#past strong")).toEqual(pastTimes(shown));
    }
    await page.locator("#past-more").focus();
    await page.keyboard.press("Enter");
    await expect.poll(() => texts("#past strong")).toEqual(pastTimes(80));
    await expect.poll(() => page.locator("#spoken").textContent()).toBe("80 are shown");
    expect(await page.locator(".changed").count()).toBe(0);
  });

  test("where a list has no more, its button goes, and the focus stays in the list", async () => {
    const more = page.getByRole("button", { name: "More pets" });
    await more.focus();
    const all = Number(count("pets"));
    for (let shown = 20; shown < all; shown += 20) {
      await page.keyboard.press("Enter");
      await expect.poll(() => texts("#pets li")).toHaveLength(Math.min(all, shown + 20));
    }
    await expect.poll(() => more.count()).toBe(0);
    expect(await page.evaluate(() => document.activeElement!.id)).toBe("pets");
  });

  test("a reservation that is moved moves in its list", async () => {
    const fourth = nth(3, "reservations", `where ${OPEN} order by starts_at, reservation_id`);
    const before = openTimes();
    const tenth = `(select starts_at from reservations where ${OPEN} order by starts_at offset 9 limit 1)`;
    server.sql(`update reservations set starts_at = ${tenth} + interval '1 minute' where reservation_id = ${fourth}`);
    expect(openTimes()).not.toEqual(before);
    await expect.poll(() => texts("#reservations strong")).toEqual(openTimes());
    expect(await texts("#reservations .changed strong")).toEqual([openTimes()[9]]);

    const yesterday = `'${today}'::timestamptz - interval '1 minute'`;
    server.sql(`update reservations set starts_at = ${yesterday} where reservation_id = ${fourth}`);
    await expect.poll(() => texts("#past strong")).toEqual(pastTimes());
    expect(await texts("#past .changed strong")).toEqual([pastTimes()[0]]);
    await expect.poll(() => texts("#reservations strong")).toEqual(openTimes());
    expect(await page.locator("#reservations .changed").count()).toBe(0);
  });

  test("one that is deleted is followed by the next, which does not glow", async () => {
    const [, second] = pastTimes();
    const first = nth(0, "reservations", `where ${PAST} order by starts_at desc, reservation_id desc`);
    server.sql(`delete from reservations where reservation_id = ${first}`);
    await expect.poll(() => texts("#past strong")).toEqual(pastTimes());
    expect(pastTimes()[0]).toBe(second);
    expect(await page.locator("#past .changed").count()).toBe(0);
  });

  test("who wants no motion sees a mark that does not fade", async () => {
    /** the background of the first pet near the end of its animation, and that of what is new */
    const late = () =>
      page.evaluate(() => {
        const item = document.querySelector("#pets li")!;
        const [animation] = item.getAnimations();
        animation!.pause();
        animation!.currentTime = 2_900;
        const shown = getComputedStyle(item).backgroundColor;
        animation!.currentTime = 0;
        return [shown, getComputedStyle(item).backgroundColor];
      });
    for (const reducedMotion of ["no-preference", "reduce"] as const) {
      await page.emulateMedia({ reducedMotion });
      server.sql(`update pets set name = '${reducedMotion}' where pet_id = 8`);
      await expect.poll(() => page.locator("#pets li strong").first().textContent()).toBe(reducedMotion);
      const [shown, full] = await late();
      expect(shown === full).toBe(reducedMotion === "reduce");
    }
  });

  test("a status has a colour and a shape", async () => {
    const look = (status: string) =>
      page
        .locator(`[data-is=${status}]`)
        .first()
        .evaluate((part) => [getComputedStyle(part).color, getComputedStyle(part, "::before").content]);
    const looks = [];
    const over = ["completed", "cancelled", "no_show"];
    for (const status of ["requested", "confirmed", "in_progress", ...over]) looks.push(await look(status));
    // what is over is quiet
    expect(new Set(looks.map(([colour]) => colour)).size).toBe(4);
    expect(new Set(looks.map(([, shape]) => shape)).size).toBe(6);
    expect(looks.flat()).not.toContain("none");
  });

  test("a reservation that is done leaves, and names follow their own tables", async () => {
    const done = `where reservation_id = (select min(reservation_id) from reservations where ${OPEN})`;
    const before = Number(count("reservations", OPEN));
    server.sql(`update reservations set status = 'completed' ${done}`);
    await expect.poll(() => size("reservations")).toBe(String(before - 1));
    server.sql("update users set name = 'Nemo Nobody'");
    await expect.poll(() => page.locator("#reservations small", { hasNotText: "Nemo" }).count()).toBe(0);
    expect(new Set(await texts("#user option"))).toEqual(new Set(["Nemo Nobody"]));
  });

  test("the bell is that of the user who was picked", async () => {
    server.sql("update inbox set read_at = now()");
    await pick(5);
    server.sql("insert into invoices (user_id, total) values (6, 57)");
    server.sql("insert into invoices (user_id, total) values (5, 58)");
    await expect.poll(() => bell("Notifications, 1 unread").count()).toBe(1);
    expect(await page.locator("#spoken").textContent()).toBe("Invoice open 58.00");

    await bell("Notifications, 1 unread").focus();
    await page.keyboard.press("Enter");
    await expect.poll(() => page.locator("#told").isVisible()).toBe(true);
    expect(await texts("#told strong")).toEqual(["Invoice open"]);
    server.sql("insert into pets (user_id, name, species) values (5, 'Ivy', 'cat')");
    await expect.poll(() => texts("#told strong")).toEqual(["Ivy", "Invoice open"]);
    await page.keyboard.press("Escape");
    await expect.poll(() => page.locator("#told").isVisible()).toBe(false);

    await pick(6);
    server.sql("insert into invoices (user_id, total) values (5, 59), (6, 60)");
    await expect.poll(() => bell("Notifications, 2 unread").count()).toBe(1);
    expect(await texts("#told small")).toEqual(["60.00", "57.00"]);
  });

  test("the bell remembers after a reload and in another tab, until the application says that it was read", async () => {
    server.sql("update inbox set read_at = now()");
    await pick(7);
    server.sql("insert into invoices (user_id, total) values (7, 71)");
    const unread = bell("Notifications, 1 unread");
    await expect.poll(() => unread.count()).toBe(1);
    await page.reload();
    await expect.poll(() => unread.count()).toBe(1);
    expect(await page.locator("#user").inputValue()).toBe("7");
    expect(await texts("#told small")).toEqual(["71.00"]);

    const other = await chromium.context.newPage();
    try {
      await other.goto(`${front.url}/clinic`);
      await other.getByLabel("User").selectOption("7");
      const there = other.getByRole("button", { name: "Notifications, 1 unread" });
      await expect.poll(() => there.count()).toBe(1);
      server.sql("update inbox set read_at = now() where user_id = 7");
      await expect.poll(() => there.count()).toBe(0);
    } finally {
      await other.close();
    }
    await expect.poll(() => bell("Notifications").count()).toBe(1);
    expect(await texts("#told li")).toEqual([]);
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

  test("in the evening what is over is cleared away, and the archive stays", () => {
    const over = "status in ('completed', 'cancelled', 'no_show') and reservation_id > 0";
    server.sql(`insert into reservations (pet_id, user_id, employee_id, service_id, starts_at, status)
      select 1, 1, 1, 1, now(), 'completed' from generate_series(1, 300)`);
    const archived = count("reservations", "reservation_id < 1");
    const [, evening] = read("sql/clinic/day.sql").split("in the evening, what is over and done with is cleared away\n");
    for (const statements of [evening!, read("sql/clinic/archive.sql")]) {
      server.sql(statements);
      expect(count("reservations", over)).toBe("250");
      expect(count("reservations", "reservation_id < 1")).toBe(archived);
    }
  });

  test("a phone, a desk, and the keyboard", async () => {
    for (const width of [400, 1400]) {
      await page.setViewportSize({ width, height: 800 });
      expect(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)).toBe(false);
    }
    await page.locator("body").focus();
    const stops = [];
    for (let i = 0; i < 8; i++) {
      await page.keyboard.press("Tab");
      stops.push(await page.evaluate(() => document.activeElement!.id));
    }
    const listed = ["pets", "reservations", "past"].flatMap((id) => [id, `${id}-more`]);
    expect(stops).toEqual(["user", "bell", ...listed]);
    expect(read("web/clinic.html")).not.toMatch(/\son\w+\s*=/);
  });

  test("axe finds nothing, whether the page is current or not", async () => {
    await bell(await page.locator("#bell").getAttribute("aria-label").then(String)).click();
    expect(await axe(page)).toEqual([]);
    await page.keyboard.press("Escape");
    server.stand(true);
    try {
      await expect.poll(isStale).toBe(true);
      expect(await axe(page)).toEqual([]);
    } finally {
      server.stand(false);
    }
    await state("live");
  });

  test("where the server stands still with its sockets open, the rows look old", async () => {
    expect(await isStale()).toBe(false);
    server.stand(true);
    try {
      await expect.poll(isStale).toBe(true);
      const since = /^Not current since \d\d:\d\d:\d\d: the server does not answer\. /;
      expect(await page.locator("#stale").textContent()).toMatch(since);
      await state("reconnecting");
      server.sql("update pets set name = 'Later' where pet_id = 2");
    } finally {
      server.stand(false);
    }
    await expect.poll(isStale).toBe(false);
    await state("live");
    await expect.poll(() => texts("#pets strong")).toContain("Later");
  });

  test("a blip is not worth a word", async () => {
    await page.evaluate(() => {
      const seen: string[] = ((globalThis as any).seen = []);
      const { body } = document;
      const look = () => seen.push(`${document.querySelector("#state")!.textContent} ${body.hasAttribute("data-stale")}`);
      new MutationObserver(look).observe(body, { attributes: true, childList: true, subtree: true });
    });
    server.stand(true);
    try {
      await page.waitForRequest(/healthz$/); // within a second: nobody answers it
    } finally {
      server.stand(false);
    }
    await page.waitForResponse(/healthz$/);
    server.sql("update pets set name = 'After' where pet_id = 3");
    await expect.poll(() => texts("#pets strong")).toContain("After");
    expect(new Set(await page.evaluate(() => (globalThis as any).seen))).toEqual(new Set(["live false"]));
  });

  test("the state says when the source is down, and when the server is gone", async () => {
    server.admit(false);
    await state("the source is down");
    server.admit(true);
    await state("live");
    expect(errors).toEqual([]);
    await server.end("SIGKILL");
    await state("reconnecting");
    expect(await isStale()).toBe(true);
    await server.serve();
    server.sql("update pets set name = 'Back' where pet_id = 1");
    await state("live");
    expect(await isStale()).toBe(false);
    await expect.poll(() => texts("#pets strong")).toContain("Back");
    // a browser reports each attempt that fails
    errors = errors.filter((error) => !/^(WebSocket connection|Failed to load resource)/.test(error));
  });
});

describeWhere(noChromium() ?? missing(), "the clinic's page in the demo", () => {
  let demo: Demo;
  let chromium: Chromium;
  let page: Page;
  /** what the page has said of the latest writes */
  const said = () => page.evaluate(() => (globalThis as any).said as string[]);

  beforeAll(async () => {
    demo = await Demo.start();
    chromium = await Chromium.start();
    page = await chromium.context.newPage();
    await page.goto(`${demo.url}/clinic`);
    await page.locator("#state[data-state=live]").waitFor();
    await page.evaluate(() => {
      const said: string[] = ((globalThis as any).said = []);
      const last = document.querySelector("#last")!;
      const note = ({ addedNodes }: MutationRecord) => addedNodes.forEach(({ textContent }) => said.push(textContent!));
      new MutationObserver((records) => records.forEach(note)).observe(last, { childList: true });
    });
  });
  afterAll(() => demo?.stop());
  afterAll(() => chromium?.stop());

  test("it has 100,000 past visits, of which it shows the latest", async () => {
    await expect.poll(() => page.locator("#past li").count()).toBe(20);
    expect(await page.locator("#past-size").textContent()).toMatch(/^about (99|10\d),\d{3}$/);
  });

  test("its button has the application write", async () => {
    await page.getByRole("button", { name: "Weigh a pet" }).click();
    await expect.poll(said).toContainEqual(expect.stringMatching(/^Last write: pets, updated by clinic_app\/page at /));
  });

  test("the application writes for pages of this origin alone, and for a POST alone", async () => {
    const ask = (method: string, origin: string) => fetch(`${demo.url}/clinic/weigh/1`, { method, headers: { origin } });
    expect((await ask("POST", demo.url)).status).toBe(200);
    expect((await ask("POST", "https://elsewhere.example")).status).toBe(403);
    expect((await ask("GET", demo.url)).status).toBe(404);
  });

  test("its psql line writes a row that glows, and rings the bell until that was read", async () => {
    const line = await page.locator("#psql").textContent();
    const notes = execSync(`${line!.replace(/"$/, ' returning notes"')} -qAt`, {
      encoding: "utf8",
      env: { ...process.env, PATH: `${programs()}:${process.env.PATH}` },
    }).trim();
    expect(notes).toMatch(/^psql at /);
    const written = page.locator("#pets .changed", { hasText: notes });
    await expect.poll(() => written.count()).toBe(1);
    await expect.poll(said).toContainEqual(expect.stringContaining("clinic_app/psql"));

    const told = page.locator("#told li", { hasText: notes });
    await expect.poll(() => told.count()).toBe(1);
    await page.locator("#bell").click();
    expect(await axe(page, "header", "#write")).toEqual([]);
    await page.getByRole("button", { name: "Mark as read" }).click();
    await expect.poll(() => told.count()).toBe(0);
  });
});
