/** Queries that are fetched again when rows change: of the real TanStack Query and SWR, and a real server. */
import { QueryClient, QueryObserver } from "@tanstack/query-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client } from "../src/index.js";
import { invalidate } from "../src/query.js";
import { bundle } from "./bundle.js";
import { Chromium, noChromium } from "./chromium.js";
import { Front } from "./front.js";
import type { Pet } from "./pages/pet.js";
import { insertPets, missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

describeWhere(missing(), "queries", () => {
  let server: Server;
  let client: Client<{ pets: Pet }>;
  const queries = new QueryClient();

  beforeAll(async () => {
    server = await Server.start();
  });
  afterAll(() => server?.stop());
  beforeEach(async () => {
    await server.refill(9);
    client = connect(server.url, { WebSocket });
  });
  afterEach(() => {
    client.close();
    queries.clear();
  });

  /** A query that somebody looks at: how often it was fetched. */
  function fetched(queryKey: readonly unknown[]): () => number {
    let count = 0;
    new QueryObserver(queries, { queryKey, queryFn: () => ++count, staleTime: Infinity }).subscribe(() => {});
    return () => count;
  }

  const isStale = (queryKey: readonly unknown[]) => queries.invalidateQueries({ queryKey });

  test("a query of TanStack Query is fetched again, once for a transaction", async () => {
    const [all, other] = [fetched(["pets", "all"]), fetched(["owners"])];
    const stop = invalidate(client, { pets: ["pets"] }, (queryKey) => queries.invalidateQueries({ queryKey }));
    // what was fetched before may have missed a change
    await vi.waitFor(() => expect(all()).toBe(2), 30_000);
    server.sql(`${insertPets(10, 500)}; update pets set name = 'x'`);
    await vi.waitFor(() => expect(all()).toBe(3), 30_000);
    server.sql("delete from pets where pet_id = 1");
    await vi.waitFor(() => expect(all()).toBe(4), 30_000);
    expect(other()).toBe(1);
    stop();
    await expect.poll(() => client.state).toBe("idle");
  });

  test("a function says which ones, and all where changes may be missing", async () => {
    const [one, two] = [fetched(["pet", 1]), fetched(["pet", 2])];
    const keys: (readonly unknown[])[] = [];
    const stop = invalidate(client, { pets: (change) => [change?.data ? ["pet", change.data.pet_id] : ["pet"]] }, (key) => {
      keys.push(key);
      return isStale(key);
    });
    await vi.waitFor(() => expect([one(), two()]).toEqual([2, 2]), 30_000);
    server.sql("update pets set name = 'x' where pet_id = 2; update pets set name = 'y' where pet_id = 2");
    await vi.waitFor(() => expect(two()).toBe(3), 30_000);
    expect(one()).toBe(2);
    expect(keys).toEqual([["pet"], ["pet", 2]]);
    server.sql("alter table pets disable trigger user");
    await vi.waitFor(() => expect(keys.at(-1)).toEqual(["pet"]), 25_000);
    server.sql("alter table pets enable trigger user");
    stop();
  });

  test.skipIf(noChromium())("a query of SWR is fetched again", async () => {
    const html = `<!doctype html><body><script type="module">${await bundle("pages/swr.tsx")}</script>`;
    const front = new Front(() => server.port, { "/": html });
    const chromium = await Chromium.start();
    await front.open();
    try {
      const page = await chromium.context.newPage();
      await page.goto(front.url);
      await expect.poll(() => page.textContent("b")).toBe("2");
      server.sql("delete from pets where pet_id < 5");
      await expect.poll(() => page.textContent("b")).toBe("3");
    } finally {
      await chromium.stop();
      await front.cut();
    }
  });
});
