/** Windows of a gateway, and windows whose policy changes while others write: at each cut they are what the database gives. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client } from "../src/index.js";
import { follow, SEEN_BY, TABLES, TIMES, WATCH, type Seer, type Tables } from "./followed.js";
import { Front } from "./front.js";
import { jwt, SECRET } from "./jwt.js";
import { missing, missingRedis, Server } from "./server.js";
import { describeWhere } from "./where.js";

/** What the holder sees from now on. */
const show = (seer: Seer): string => {
  const { filter } = SEEN_BY[seer];
  return `select rowcast.allow('orders', 'holder'${filter ? `, '${filter}'` : ""})`;
};
const POLICIES = `${WATCH}; ${show("everybody")}, rowcast.allow('present', 'holder')`;

for (const kind of ["relay", "gateway"] as const) {
  describeWhere(missing() ?? (kind === "gateway" ? missingRedis() : undefined), `windows of a ${kind} that asks for tokens`, () => {
    let server: Server;
    let front: Front;
    let client: Client<Tables>;

    beforeAll(async () => {
      server = await Server.start({ tables: TABLES, watch: POLICIES, env: SECRET, isGateway: kind === "gateway" });
      front = new Front(() => server.port);
    });
    afterAll(() => server?.stop());

    beforeEach(async () => {
      vi.spyOn(Math, "random").mockReturnValue(0.02); // short pauses
      server.sql(show("everybody"));
      await front.open();
      client = connect(front.url, { WebSocket, token: () => jwt({ sub: "7", role: "holder" }) });
    });
    afterEach(async () => {
      client.close();
      await front.cut();
    });

    test("each cut is what a policy shows, and the next one follows it", async () => {
      const { more, settled, compare } = await follow(server, client);
      const seers: Seer[] = ["everybody"];
      for (const seer of ["packer", "dunner", "everybody", "dunner"] as const) {
        const writing = server.write(`call write_all(${20 * TIMES}, 0.05)`);
        server.sql(show(seer));
        seers.push(seer);
        await Promise.all([more("newest", 5), more("open", 5)]);
        await writing;
        await settled(seer);
      }
      compare(10, seers);
    });

    test("over lost connections and a node that starts anew, while four sessions write", async () => {
      const { more, settled, compare } = await follow(server, client);
      const writing = Array.from({ length: 4 }, () => server.write(`call write_all(${30 * TIMES}, 0.1)`));
      for (let i = 0; i < 3; i++) {
        const loaded = more("newest", 20);
        await front.cut();
        await front.open();
        if (i === 1) {
          await server.end("SIGKILL");
          await server.serve();
        }
        await loaded;
      }
      await Promise.all(writing);
      await settled();
      expect(compare(1).states).toBeGreaterThan(4);
    });
  });
}
