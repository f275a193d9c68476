/** Networks that let no WebSocket through: a real server behind a proxy that strips `Upgrade`. */
import { once } from "node:events";
import { createServer, request, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client, type RowcastError } from "../src/index.js";
import type { Pet } from "./pages/pet.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

/** How a proxy answers a handshake. */
type Way = "passes" | "strips" | "portal";

/** What stands between a page and a server. */
class Proxy {
  way: Way = "passes";
  /** what an application that knows no streams answers in the server's place; 0: the server answers */
  status = 0;
  /** what the server adds to a refusal */
  code = "";
  handshakes = 0;
  streams = 0;
  #server!: HttpServer;

  constructor(readonly target: () => number) {}

  async open(): Promise<void> {
    this.#server = createServer((asked, answer) => {
      // a handshake without its upgrade is a plain request
      if (asked.url!.startsWith("/ws")) this.handshakes++;
      else this.streams++;
      if (this.way === "portal") return void answer.writeHead(200, { "content-type": "text/html" }).end("<h1>Welcome</h1>");
      if (this.status && !asked.url!.startsWith("/ws")) {
        return void answer.writeHead(this.status, this.code ? { "rowcast-code": this.code } : {}).end("<h1>No</h1>");
      }
      const { host, upgrade, connection, ...headers } = asked.headers;
      const far = request({ port: this.target(), host: "127.0.0.1", path: asked.url, method: asked.method, headers });
      far.on("response", (got) => {
        answer.writeHead(got.statusCode!, got.headers);
        got.pipe(answer);
      });
      far.on("error", () => answer.destroy());
      answer.on("close", () => far.destroy());
      asked.pipe(far);
    });
    this.#server.on("upgrade", (asked, near) => {
      this.handshakes++;
      if (this.way !== "passes") return void near.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      const far = request({ port: this.target(), host: "127.0.0.1", path: asked.url, headers: asked.headers });
      far.on("upgrade", (got, socket) => {
        near.write("HTTP/1.1 101 Switching Protocols\r\n");
        for (let i = 0; i < got.rawHeaders.length; i += 2) near.write(`${got.rawHeaders[i]}: ${got.rawHeaders[i + 1]}\r\n`);
        near.write("\r\n");
        socket.pipe(near).pipe(socket);
        for (const end of [socket, near]) end.on("error", () => {});
        near.on("close", () => socket.destroy());
        socket.on("close", () => near.destroy());
      });
      far.on("error", () => near.destroy());
      far.end();
    });
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

describeWhere(missing(), "a network without WebSockets", () => {
  let server: Server;
  let proxy: Proxy;
  let client: Client<{ pets: Pet }>;
  let errors: RowcastError[];

  beforeAll(async () => {
    server = await Server.start();
  });
  afterAll(() => server?.stop());

  beforeEach(async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.02); // short pauses
    await server.refill(0);
    proxy = new Proxy(() => server.port);
    await proxy.open();
    client = connect(proxy.url, { WebSocket });
    errors = [];
  });
  afterEach(() => {
    client.close();
    proxy.close();
  });

  function pets(filter?: string) {
    const collection = client.collection("pets", { key: "pet_id", filter: filter as any });
    collection.on("error", (error) => errors.push(error));
    return collection;
  }

  test("lists come by event streams, and follow", async () => {
    proxy.way = "strips";
    const all = pets();
    await all.ready;
    server.sql("insert into pets (pet_id, user_id, name) values (1, 1, 'Luna'), (2, 2, 'Max')");
    await vi.waitFor(() => expect(all.size).toBe(2), 30_000);
    // another list is another request, and the first goes on from its place
    const ones = pets("user_id=eq.1");
    const resets = vi.fn();
    all.on("change", ({ removed }) => removed.size && resets());
    await ones.ready;
    expect([...ones.keys()]).toEqual([1]);
    server.sql("begin; update pets set user_id = 1 where pet_id = 2; insert into pets (pet_id, user_id, name) values (3, 3, 'Kim'); commit");
    await vi.waitFor(() => expect([ones.size, all.size]).toEqual([2, 3]), 30_000);
    ones.close();
    server.sql("delete from pets where pet_id = 1");
    await vi.waitFor(() => expect(all.size).toBe(2), 30_000);
    expect(client.state).toBe("live");
    await vi.waitFor(() => expect(errors).toMatchObject([{ code: "no_websocket", final: false }]), 30_000);
    expect(resets).toHaveBeenCalledTimes(1);
  });

  test("a server that was away is a WebSocket's again", async () => {
    const all = pets();
    await all.ready;
    const { port } = server;
    // the second time within a minute, too
    for (let outage = 0; outage < 2; outage++) {
      await server.end("SIGKILL");
      const before = proxy.handshakes;
      // by then the next attempt may be a stream
      await vi.waitFor(() => expect(proxy.handshakes + proxy.streams).toBeGreaterThan(before + 2), { timeout: 90_000 });
      await server.serve();
      expect(server.port).toBe(port);
      server.sql("insert into pets (pet_id, user_id, name) values (7, 1, 'Luna')");
      await vi.waitFor(() => expect(all.has(7)).toBe(true), { timeout: 90_000 });
      await vi.waitFor(async () => expect((await server.status()).connections).toBe(1), { timeout: 90_000 });
      const streams = proxy.streams;
      server.sql("delete from pets where pet_id = 7");
      await vi.waitFor(() => expect(all.size).toBe(0), 30_000);
      expect(pets("user_id=eq.1")).toBeDefined();
      await vi.waitFor(() => expect(client.state).toBe("live"), 30_000);
      expect(proxy.streams, "what is asked for now goes over the socket").toBe(streams);
    }
    expect(errors).toEqual([]);
  });

  test("a row's text may hold what ends a line elsewhere", async () => {
    proxy.way = "strips";
    const all = pets();
    await all.ready;
    server.sql("insert into pets (pet_id, user_id, name) values (1, 1, E'a\\u2028b')");
    await vi.waitFor(() => expect(all.get(1)?.name).toBe("a\u2028b"), { timeout: 60_000 });
    server.sql("insert into pets (pet_id, user_id, name) values (2, 2, E'\\u2029event: close\\u2029')");
    await vi.waitFor(() => expect(all.get(2)?.name).toBe("\u2029event: close\u2029"), { timeout: 60_000 });
    const fresh = pets("user_id=eq.2");
    await fresh.ready;
    expect(fresh.size).toBe(1);
    expect(errors.filter(({ code }) => code === "bad_frame")).toEqual([]);
  });

  test.each([400, 401, 403, 404])("an application that answers %i in the server's place ends nothing", async (status) => {
    Object.assign(proxy, { way: "strips", status });
    const all = pets();
    await vi.waitFor(() => expect(errors[0]).toMatchObject({ code: "no_server", final: false }), { timeout: 90_000 });
    expect(errors[0]!.message).toContain(String(status));
    Object.assign(proxy, { way: "passes", status: 0 });
    await vi.waitFor(() => expect(client.state).toBe("live"), { timeout: 90_000 });
    await all.ready;
  });

  test("what the server itself refuses ends a list", async () => {
    Object.assign(proxy, { way: "strips", status: 403, code: "4403" });
    await expect(pets().ready).rejects.toMatchObject({ code: "forbidden" });
  });

  test("a portal that answers everything is an error that says so", async () => {
    proxy.way = "portal";
    pets();
    await vi.waitFor(() => expect(errors).toMatchObject([{ code: "no_server", final: false }]), { timeout: 90_000 });
    expect(errors[0]!.message).toContain("Welcome");
    expect(client.state).toBe("connecting");
    // and once it lets one through
    proxy.way = "passes";
    await vi.waitFor(() => expect(client.state).toBe("live"), { timeout: 90_000 });
  });
});
