/** The page `/` in a real browser, served by a real server. */
import { execFileSync } from "node:child_process";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
// @ts-expect-error a script of pages, without types
import * as figures from "../../web/figures.js";
import { axe } from "./axe.js";
import { Chromium, noChromium } from "./chromium.js";
import { jwt, SECRET } from "./jwt.js";
import { insertPets, missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

const TABLES = `create table pets (pet_id bigint primary key, user_id bigint, name text);
  create table notes (note_id bigint primary key, body text);
  create table "Old_Import" (id bigint)`;
/** the metrics are asked each two seconds, and a chart needs them twice */
const WATCH = `select rowcast.watch('public.pets', user_rule => 'user_id');
  select rowcast.watch('public.notes', exclude => '{body}')`;

describeWhere(noChromium() ?? missing(), "the dashboard", () => {
  let server: Server;
  let chromium: Chromium;
  let page: Page;

  beforeAll(async () => {
    server = await Server.start({ tables: TABLES, watch: WATCH });
    chromium = await Chromium.start();
  });
  afterAll(() => server?.stop());
  afterAll(() => chromium?.stop());

  let errors: string[];
  let requests: string[];

  beforeEach(async () => {
    server.sql("truncate pets, notes");
    page = await chromium.context.newPage();
    await open(server.url);
  });
  afterEach(async () => {
    await page.close();
    expect(errors).toEqual([]);
  });

  /** Opens a dashboard. Returns when its feed is live. */
  async function open(url: string): Promise<void> {
    [errors, requests] = [[], []];
    page.removeAllListeners();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    page.on("request", (request) => requests.push(request.url()));
    page.on("dialog", (dialog) => errors.push(dialog.message()));
    await page.goto(url);
    await untilText("#health", "Capture is live");
    await untilText("#feed-state", "live");
  }

  const texts = (selector: string) => page.locator(selector).allTextContents();
  const lines = () => texts("#feed li");
  const button = (name: string) => page.getByRole("button", { name, exact: true });
  const channel = (name: string) => page.locator(`#channels [data-key=${name}]`);

  async function untilText(selector: string, text: string | RegExp): Promise<void> {
    const poll = expect.poll(() => page.locator(selector).textContent());
    await (typeof text === "string" ? poll.toBe(text) : poll.toMatch(text));
  }

  /** What a browser says of a server that does not answer. */
  function forgiveFailures(): void {
    errors = errors.filter((error) => !/^(Failed to load resource|WebSocket connection)/.test(error));
  }

  test("a change is in the feed, as text, and all of it comes from this server", async () => {
    server.sql("insert into pets values (1, 7, '<img src=x onerror=alert(1)>')");
    await expect.poll(lines).toHaveLength(1);
    const [line] = await lines();
    expect(line).toMatch(/^\d\d:\d\d:\d\d/);
    expect(line).toContain("pets");
    expect(line).toContain("created");
    expect(line).toContain('pet_id: 1, user_id: 7, name: "<img src=x onerror=alert(1)>"');
    server.sql("update pets set name = 'Luna'");
    await expect.poll(() => texts("#feed mark")).toEqual(['name: "Luna"']);
    await expect.poll(() => requests.some((url) => url.endsWith("/websocket/database"))).toBe(true);
    const elsewhere = requests.filter((url) => url !== "data:," && !url.startsWith(server.url));
    expect(elsewhere).toEqual([]);
  });

  test("pause holds the feed, and it goes on with what came meanwhile", async () => {
    server.sql("insert into pets values (1)");
    await expect.poll(lines).toHaveLength(1);
    await button("Pause").click();
    server.sql("insert into pets values (2), (3)");
    await untilText("#held", "2 held");
    expect(await lines()).toHaveLength(1);
    await button("Go on").click();
    await expect.poll(lines).toHaveLength(3);
    expect(await page.locator("#held").textContent()).toBe("");
    expect((await lines())[0]).toContain("pet_id: 3");
  });

  test("filters show what fits, of what has come and of what comes", async () => {
    server.sql("insert into pets values (1, 7, 'Luna'), (2, 7, 'Rex'); insert into notes values (1)");
    await expect.poll(lines).toHaveLength(3);
    await page.getByLabel("Filter").fill("lUNa");
    await expect.poll(lines).toHaveLength(1);
    server.sql("insert into pets values (3, 7, 'Rex'), (4, 7, 'Luna II')");
    await expect.poll(lines).toHaveLength(2);
    expect((await lines())[0]).toContain("Luna II");
    await page.getByLabel("Filter").fill("");
    await page.getByLabel("Channel", { exact: true }).selectOption("notes");
    await expect.poll(lines).toHaveLength(1);
    await page.getByLabel("Channel", { exact: true }).selectOption("");
    await expect.poll(lines).toHaveLength(5);
  });

  test("a burst is drawn in a bounded list, the newest first", async () => {
    server.sql(insertPets(1, 5_000));
    await expect.poll(async () => (await lines())[0]).toContain("pet_id: 5000");
    expect(await page.locator("#feed li").count()).toBe(200);
    await expect.poll(() => channel("pets").locator(".rate").textContent()).not.toBe("0");
  });

  test("figures and charts say what was delivered", async () => {
    let next = 1;
    const write = () => server.sql(`insert into pets values (${next++})`);
    const written = (selector: string) => (write(), page.locator(selector).textContent());
    await expect.poll(() => written("#p99-now")).toMatch(/^[\d.]+ m?s$/);
    await expect.poll(() => written("#changes-now")).toMatch(/^(?!0\/)[\d.]+\/s$/);
    expect(await page.locator("#bytes-now").textContent()).toMatch(/B\/s$/);
    await untilText("#lag", /^, [\d.]+ m?s behind$/);
    const shown = await texts("#figures dt");
    expect(shown.slice(0, 4)).toEqual(["Sockets", "Users", "Messages", "Sent"]);
    expect(shown).not.toContain("Closed as too slow");
    expect(await page.locator("figure canvas").count()).toBe(3);
  });

  test("channels tell their table, who listens, and what mends them", async () => {
    await expect.poll(() => texts("#channels .name")).toEqual(["notes", "pets"]);
    await untilText("#channels [data-key=notes] .source", /notes · without body$/);
    expect(await channel("pets").locator(".source").textContent()).toMatch(/pets · users by user_id$/);
    expect(await texts("#channels .subscribers")).toEqual(["1", "1"]);
    expect(await texts("#channels .state")).toEqual(["live", "live"]);

    server.sql('alter table pets disable trigger "!rowcast"');
    try {
      await expect.poll(() => channel("pets").locator(".state").textContent()).toBe("off");
      await channel("pets").getByRole("button").click();
      const sql = await page.evaluate(() => String(getSelection()));
      expect(sql).toMatch(/enable trigger/);
      server.sql(sql);
      expect(server.sql("select state from rowcast.watched where channel = 'pets'")).toBe("live");
    } finally {
      server.sql('alter table pets enable trigger "!rowcast"');
    }
  });

  test("a table that nobody hears is named with its SQL, until it is watched", async () => {
    const item = page.locator("#unwatched li");
    await expect.poll(() => item.count()).toBe(1);
    expect(await item.locator("strong").textContent()).toContain('"Old_Import"');
    server.sql((await item.locator("code").textContent())!);
    await expect.poll(() => texts("#channels .name")).toEqual(["notes", "old-import", "pets"]);
    server.sql(`insert into "Old_Import" values (5)`);
    await expect.poll(lines).toHaveLength(1);
    await expect.poll(() => item.count()).toBe(0);
    server.sql(`select rowcast.unwatch('public."Old_Import"')`);
  });

  test("what capture costs is told by channel", async () => {
    server.sql("insert into pets select generate_series(1, 100)");
    const cell = (name: string) => page.locator(`#cost [data-key=pets] ${name}`).textContent();
    await expect.poll(async () => Number((await cell(".changes"))!.replace(/\D/g, ""))).toBeGreaterThanOrEqual(100);
    expect(await cell(".outbox")).toMatch(/^\d+(\.\d)? [kM]B$/);
    expect(await cell(".log")).toMatch(/^\d+(\.\d)? [kM]B$/);
  });

  test("where nothing is watched, the page says how to begin", async () => {
    server.sql("select rowcast.unwatch('pets'), rowcast.unwatch('notes')");
    try {
      await expect.poll(() => page.locator("#no-channel").isVisible()).toBe(true);
      expect(await page.locator("#no-channel code").textContent()).toMatch(/^select rowcast\.watch\(/);
      expect(await page.locator("#channels").isVisible()).toBe(false);
    } finally {
      server.sql(WATCH);
    }
    await expect.poll(() => texts("#channels .name")).toEqual(["notes", "pets"]);
    await untilText("#feed-state", "live");
    server.sql("insert into pets values (1)");
    await expect.poll(async () => (await lines())[0]).toContain("pet_id: 1");
  });

  test("a table that is taken out and watched again is in the feed once", async () => {
    await untilText("#feed-state", "live");
    server.sql("select rowcast.unwatch('notes')");
    await expect.poll(() => texts("#channels .name")).toEqual(["pets"]);
    await untilText("#feed-state", "live");
    server.sql(WATCH);
    await expect.poll(() => texts("#channels .name")).toEqual(["notes", "pets"]);
    await expect.poll(() => texts("#channels .subscribers")).toEqual(["1", "1"]);
    await untilText("#feed-state", "live");
  });

  test("it says when the source is down, and when the server is gone", async () => {
    await untilText("#read-at", /^as of /);
    await expect.poll(() => texts("#channels .state")).toEqual(["live", "live"]);
    server.admit(false);
    await untilText("#health", /^The source is down since .*; changes are delayed, not lost$/);
    expect(await texts("#channels .state")).toEqual(["was live", "was live"]);
    await untilText("#feed-state", "the source is down");
    server.admit(true);
    await untilText("#health", "Capture is live");
    await untilText("#feed-state", "live");
    await server.end("SIGKILL");
    await untilText("#health", /^The server has not answered since /);
    expect(await page.title()).toContain("not answered");
    await server.serve();
    server.sql("insert into pets values (9)");
    await untilText("#health", "Capture is live");
    // on a slow machine another channel may be told a gap behind it
    await expect.poll(async () => (await lines()).join("\n")).toContain("pet_id: 9");
    forgiveFailures();
  });

  test("where the server stands still, nothing looks current", async () => {
    await untilText("#read-at", /^as of /);
    await expect.poll(() => texts("#channels .state")).toEqual(["live", "live"]);
    await expect.poll(() => page.locator("#changes-now").textContent()).toMatch(/^\d/);
    const colors = () =>
      page.evaluate(() =>
        ["#channels .state", "#channels .name", "#p50-now"].map(
          (each) => getComputedStyle(document.querySelector(each)!).color,
        ),
      );
    const before = await colors();
    server.stand(true);
    try {
      const stands = expect.poll(() => page.locator("#health").textContent());
      await stands.toMatch(/^The server has not answered since /);
      expect(await texts("#channels .state")).toEqual(["was live", "was live"]);
      expect(await page.locator("#findings").getAttribute("data-empty")).toBe("Nothing was to mend.");
      expect(await page.locator("#feed-state").textContent()).toBe("not current");
      expect((await texts("#figures .unit"))[0]).toBe("open then");
      expect(new Set(await colors()).size).toBe(1);
      expect(await colors()).not.toContain(before[1]);
      await untilText("#changes-now", "–");
      expect(await axe(page)).toEqual([]);
    } finally {
      server.stand(false);
    }
    await untilText("#health", "Capture is live");
    await untilText("#feed-state", "live");
    expect(await texts("#channels .state")).toEqual(["live", "live"]);
    expect(await colors()).toEqual(before);
    forgiveFailures();
  });

  test("a blip is not worth a word", async () => {
    await page.evaluate(() => {
      const seen: string[] = ((globalThis as any).seen = []);
      const look = () => seen.push(document.querySelector("#health")!.textContent!);
      new MutationObserver(look).observe(document.body, { attributes: true, childList: true, subtree: true });
    });
    server.stand(true);
    try {
      await page.waitForRequest(/status$/); // within a second: nobody answers it
    } finally {
      server.stand(false);
    }
    await page.waitForResponse(/status$/);
    server.sql("insert into pets values (1)");
    await expect.poll(lines).toHaveLength(1);
    expect(new Set(await page.evaluate(() => (globalThis as any).seen))).toEqual(new Set(["Capture is live"]));
  });

  test("charts begin with what the server has measured in the last hour", async () => {
    /** whether a chart has a line: pixels in its colour */
    const isDrawn = () =>
      page.evaluate(() => {
        const canvas = document.querySelector<HTMLCanvasElement>("#changes canvas")!;
        const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
        const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
        const [red, green, blue] = isDark ? [0x79, 0xb8, 0xff] : [0x0b, 0x5c, 0xad];
        for (let i = 0; i < data.length; i += 4) {
          if (data[i] === red && data[i + 1] === green && data[i + 2] === blue) return true;
        }
        return false;
      });
    // the server notes an interval each ten seconds
    const noted = async () => (await (await fetch(`${server.url}/websocket/hour`)).json()).intervals.length;
    await expect.poll(noted).toBeGreaterThan(0);
    // what is drawn from now on is not measured by the page
    await page.route("**/metrics", () => {});
    await page.reload();
    await untilText("#health", "Capture is live");
    await expect.poll(isDrawn).toBe(true);
    await page.route("**/websocket/hour", () => {});
    await page.reload();
    await untilText("#health", "Capture is live");
    expect(await isDrawn()).toBe(false);
  });

  test("axe finds nothing", async () => {
    await untilText("#read-at", /^as of /);
    server.sql("insert into pets values (1, 7, 'Luna'); update pets set name = 'Rex'; delete from pets");
    await expect.poll(lines).toHaveLength(3);
    await page.locator("#fine-title").click();
    expect(await axe(page)).toEqual([]);
  });

  test("a phone and a desk, light and dark", async () => {
    server.sql("insert into pets values (1, 1, repeat('long', 500))");
    await expect.poll(lines).toHaveLength(1);
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      for (const width of [360, 768, 1280]) {
        await page.setViewportSize({ width, height: 800 });
        expect(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)).toBe(false);
      }
      expect(await page.evaluate(faint)).toEqual([]);
    }
  });

  test("every control has a name, columns have headers, and only the state is read out", async () => {
    await untilText("#read-at", /^as of /);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>("button, input, select, a, summary, [tabindex]")]
        .filter((each) => each.checkVisibility())
        .filter((each) => {
          const by = each.getAttribute("aria-labelledby");
          const label = (each as HTMLInputElement).labels?.[0]?.textContent ?? "";
          const own = each.matches("select, input, ul") ? "" : each.textContent;
          const name = by ? document.getElementById(by)?.textContent : each.getAttribute("aria-label") || label || own;
          return !name?.trim();
        })
        .map((each) => each.outerHTML),
    );
    expect(nameless).toEqual([]);
    expect(await page.locator("thead th:not([scope=col]), tbody th:not([scope])").count()).toBe(0);
    expect(await page.locator("[role=status], [role=log], [aria-live]").count()).toBe(1);
    expect(await page.locator("h1, main, header, nav[aria-label]").count()).toBe(4);

    await page.getByLabel("Channel", { exact: true }).focus();
    const stops = [];
    for (let i = 0; i < 3; i++) {
      await page.keyboard.press("Tab");
      stops.push(await page.evaluate(() => document.activeElement!.id));
    }
    expect(stops).toEqual(["text", "pause", "feed"]);
  });

  test("a token leaves the address, and opens what it may", async () => {
    const watch = `${WATCH}; select rowcast.allow('pets', 'admin')`;
    const guarded = await Server.start({ tables: TABLES, watch, env: SECRET });
    try {
      await page.goto(guarded.url);
      await page.locator("#ask").waitFor();
      expect(await axe(page)).toEqual([]);
      const commands = (await page.locator("#make-token").textContent())!;
      const made = execFileSync("sh", ["-c", commands], { env: { ...process.env, ...SECRET }, encoding: "utf8" });
      await page.getByLabel("Token", { exact: true }).fill(made.trim());
      await button("Use it").click();
      await untilText("#health", "Capture is live");
      await page.evaluate(() => sessionStorage.removeItem("token"));

      const token = jwt({ role: "admin" });
      await open(`${guarded.url}/?token=${token}`);
      expect(page.url()).toBe(`${guarded.url}/`);
      expect(requests.slice(1).filter((url) => url.includes(token))).toEqual([]);
      expect(await page.locator("#open").textContent()).toBe("Tokens are checked.");
      await untilText("#channels [data-key=notes] .drift", /^not in the feed: /);
      guarded.sql("insert into notes values (1); insert into pets values (1)");
      await expect.poll(lines).toHaveLength(1);
    } finally {
      await page.goto("about:blank"); // else it would look for the server that is gone
      await guarded.stop();
    }
  });
});

/** Runs in the page: visible texts whose contrast is below 4.5 to 1. */
function faint(): string[] {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true })!;
  const luminance = (color: string) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((byte) => {
      const part = byte / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
  };
  const behind = (element: Element): string => {
    const color = getComputedStyle(element).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" && element.parentElement ? behind(element.parentElement) : color;
  };
  const found = [];
  for (const element of document.body.querySelectorAll<HTMLElement>("*")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.nodeValue!.trim());
    if (!hasText || !element.checkVisibility()) continue;
    const [one, other] = [getComputedStyle(element).color, behind(element)].map(luminance);
    const contrast = (Math.max(one!, other!) + 0.05) / (Math.min(one!, other!) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(1)} ${element.outerHTML.slice(0, 80)}`);
  }
  return found;
}

describe("figures of the dashboard", () => {
  /** Metrics whose histogram has counted this much up to 1 ms, 2 ms and in all. */
  const counted = (...counts: number[]) =>
    figures.parseMetrics(
      ["0.001", "0.002", "+Inf"].map((le, i) => `rowcast_delay_seconds_bucket{le="${le}"} ${counts[i]}`).join("\n"),
    );
  const quantile = (q: number, before: number[], after: number[]) =>
    figures.quantile(q, "rowcast_delay_seconds", counted(...before), counted(...after));

  test("metrics are read with their labels", () => {
    const samples = figures.parseMetrics('# TYPE a counter\na_total{code="4408",x="}"} 3\nb 1.5\n# EOF\n');
    expect([...samples]).toEqual([
      ["a_total", [{ labels: { code: "4408", x: "}" }, value: 3 }]],
      ["b", [{ labels: {}, value: 1.5 }]],
    ]);
  });

  test("a quantile is that of what was counted between two polls", () => {
    expect(quantile(0.5, [0, 0, 0], [100, 100, 100])).toBeCloseTo(0.0005);
    expect(quantile(0.5, [900, 900, 900], [900, 1_000, 1_000])).toBeCloseTo(0.0015);
    expect(quantile(0.99, [0, 0, 0], [0, 100, 100])).toBeCloseTo(0.00199);
    expect(quantile(0.99, [0, 0, 0], [0, 0, 5])).toBe(0.002);
    expect(quantile(0.5, [7, 7, 7], [7, 7, 7])).toBe(null);
    expect(quantile(0.5, [7, 7, 9], [0, 1, 10])).toBe(null);
    expect(figures.quantile(0.5, "none", new Map(), new Map())).toBe(null);
  });

  test("a rate is by the second, and none where the server has begun anew", () => {
    const at = (time: number, rows: number) => ({
      time,
      samples: figures.parseMetrics(`rowcast_source_rows_total ${rows}`),
    });
    expect(figures.measure(at(10, 100), at(14, 300)).changes).toBe(50);
    expect(figures.measure(at(10, 100), at(14, 3)).changes).toBe(null);
  });

  test("what is wrong is told apart from its remedy", () => {
    expect(figures.wrong({ drift: "the table is gone: select rowcast.unwatch('1');" })).toBe("the table is gone");
  });

  test("units fit the figure", () => {
    expect([0.00025, 0.0123, 4.5, 300].map(figures.seconds)).toEqual(["0.3 ms", "12.3 ms", "4.5 s", "5 min"]);
    expect([0, 999, 1_234, 5e6].map(figures.bytes)).toEqual(["0 B", "999 B", "1.2 kB", "5 MB"]);
  });
});
