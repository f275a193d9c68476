/** The client in a worker of a real browser, against a real server. */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle } from "./bundle.js";
import { Chromium, noChromium } from "./chromium.js";
import { Front } from "./front.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

describeWhere(noChromium() ?? missing(), "a worker", () => {
  let server: Server;
  let front: Front;
  let chromium: Chromium;
  let page: Page;

  beforeAll(async () => {
    const script = await bundle("pages/worker.ts");
    server = await Server.start();
    front = new Front(() => server.port, { "/": "", "/worker.js": script });
    await front.open();
    chromium = await Chromium.start();
    page = await chromium.context.newPage();
    await page.goto(front.url);
    await server.refill(2);
  });
  afterAll(() => front?.cut());
  afterAll(() => server?.stop());
  afterAll(() => chromium?.stop());

  /** What a worker says first that was made of a script of the server, or of its text. */
  function said(address: string, isBlob = false): Promise<string> {
    return page.evaluate(
      async ([address, isBlob]) => {
        const text = async () => new Blob([await (await fetch("/worker.js")).text()], { type: "text/javascript" });
        const worker = new Worker(isBlob ? URL.createObjectURL(await text()) : "/worker.js", { type: "module" });
        worker.postMessage(address);
        return new Promise<string>((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
      },
      [address, isBlob] as const,
    );
  }

  test("follows rows, also of a path of its own host", async () => {
    expect(await said("/")).toBe("1 pet 1\n2 pet 2");
    expect(await said(front.url)).toBe("1 pet 1\n2 pet 2");
  });

  test("that was made of a text has no host", async () => {
    expect(await said(front.url, true)).toBe("1 pet 1\n2 pet 2");
    expect(await said("/", true)).toContain("/ is no address of a server");
  });
});
