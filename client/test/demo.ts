/** `rowcast demo` as a newcomer runs it: a private Postgres, a writer, and the clinic's application. */
import { spawn, type ChildProcess } from "node:child_process";
import { chmodSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, programs, rowcast, stop } from "./server.js";

export class Demo {
  readonly #folder = mkdtempSync(join(tmpdir(), "rowcast-demo-"));
  #process!: ChildProcess;
  url = "";

  static async start(): Promise<Demo> {
    const demo = new Demo();
    try {
      await demo.#begin();
      return demo;
    } catch (error) {
      await demo.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await stop(this.#process, "SIGTERM");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #begin(): Promise<void> {
    // Postgres runs as somebody else where these tests run as root
    chmodSync(this.#folder, 0o755);
    const listen = `127.0.0.1:${await freePort()}`;
    this.url = `http://${listen}`;
    const log = join(this.#folder, "log");
    this.#process = spawn(rowcast!, ["demo", "--dir", join(this.#folder, "demo"), "--listen", listen], {
      env: { ...process.env, ROWCAST_PG_BIN: programs() },
      stdio: ["ignore", openSync(log, "a"), openSync(log, "a")],
    });
    const deadline = performance.now() + 50_000;
    while (!(await fetch(`${this.url}/readyz`).then(({ ok }) => ok, () => false))) {
      if (this.#process.exitCode !== null || performance.now() > deadline) throw new Error(readFileSync(log, "utf8"));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
