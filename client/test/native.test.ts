/** The client among the globals of React Native, against a real server. */
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Client, connect } from "../src/index.js";
import type { Pet } from "./pages/pet.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

/** Its `URL` parses nothing: what asks for a part is thrown at. */
class HalfURL {
  static {
    for (const part of ["host", "hostname", "origin", "pathname", "port", "protocol", "search", "searchParams"]) {
      Object.defineProperty(HalfURL.prototype, part, {
        get() {
          throw new Error(`URL.${part} is not implemented`);
        },
      });
    }
  }
  constructor(readonly href: string) {}
  toString = () => this.href;
}

/** No document, no location, no events of a window; a timer is a number, and a socket knows no events of Node. */
function globalsOfReactNative() {
  const timers: NodeJS.Timeout[] = [];
  const global: Record<string, unknown> = {
    setTimeout: (run: () => void, time: number) => timers.push(setTimeout(run, time)),
    clearTimeout: (number?: number) => clearTimeout(timers[number! - 1]),
    queueMicrotask,
    performance: { now: () => performance.now() },
    navigator: { product: "ReactNative" },
    URL: HalfURL,
    console,
    WebSocket: class {
      readonly #socket: WebSocket;
      onopen: unknown = null;
      onmessage: unknown = null;
      onclose: unknown = null;
      onerror: unknown = null;
      constructor(url: string, protocols: string | string[]) {
        this.#socket = new WebSocket(url, protocols);
        for (const name of ["open", "message", "close", "error"] as const) {
          this.#socket.addEventListener(name, (event: any) => (this as any)[`on${name}`]?.(event));
        }
      }
      get readyState() {
        return this.#socket.readyState;
      }
      send(text: string) {
        this.#socket.send(text);
      }
      close() {
        this.#socket.close();
      }
    },
  };
  global.global = global.window = global.self = global;
  return global;
}

describeWhere(missing(), "React Native", () => {
  let server: Server;
  let source: string;

  beforeAll(async () => {
    server = await Server.start();
    const { outputFiles } = await build({
      stdin: {
        contents: 'export * from "./index.js"; export * from "./store.js"',
        resolveDir: fileURLToPath(new URL("../src", import.meta.url)),
      },
      bundle: true,
      format: "iife",
      globalName: "rowcast",
      write: false,
    });
    source = outputFiles[0]!.text;
  });
  afterAll(() => server?.stop());

  /** The package, as it is among these globals. */
  function load(globals: object): { connect: typeof connect } & typeof import("../src/store.js") {
    // the longest pauses, so that nothing but what the test does brings the client back
    return runInContext(`Math.random = () => 1; ${source}; rowcast`, createContext(globals));
  }

  test("rows are followed, and an application that comes to the front asks for them", async () => {
    await server.refill(3);
    const native = load(globalsOfReactNative());
    const client: Client<{ pets: Pet }> = native.connect(server.url);
    try {
      const store = native.collectionStore(client, "pets", { key: "pet_id" });
      const names = () => store.get().rows.map(({ name }) => name);
      const leave = store.subscribe(() => {});
      await expect.poll(() => store.get().isReady).toBe(true);
      expect(names()).toEqual(["pet 1", "pet 2", "pet 3"]);
      // the system has stopped timers and the network for so long that the server is another one
      await server.end("SIGKILL");
      await expect.poll(() => client.state).toBe("connecting");
      server.sql("update pets set name = 'Luna' where pet_id = 2");
      await server.serve();
      client.wake();
      await expect.poll(names).toContain("Luna");
      leave();
    } finally {
      client.close();
    }
    expect(client.state).toBe("idle");
  });

  test("there a path leads nowhere", () => {
    const client = load(globalsOfReactNative()).connect("/live");
    expect(() => client.subscribe("pets")).toThrow("/live is no address of a server");
    expect(() => load(globalsOfReactNative()).connect("example.com")).toThrow("example.com is no address of a server");
  });
});
