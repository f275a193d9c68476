/** A Chromium without a window, ended by its own process id. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type BrowserContext } from "playwright-core";

const program = process.env.CHROMIUM ?? "/usr/bin/chromium";
const OFF = ["gpu", "quic", "background-networking", "component-update", "sync"].map((each) => `--disable-${each}`);

/** Why there is none, or nothing. */
export function noChromium(): string | undefined {
  return existsSync(program) ? undefined : "there is no Chromium: install it, or set CHROMIUM";
}

export class Chromium {
  readonly #folder = mkdtempSync(join(tmpdir(), "rowcast-chromium-"));
  #process!: ChildProcess;
  /** Its tabs. Of those that are not in front the pages are hidden, as on a desk. */
  context!: BrowserContext;

  static async start(): Promise<Chromium> {
    const started = new Chromium();
    try {
      await started.#begin();
      return started;
    } catch (error) {
      await started.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    // not "exit": its children write into the folder until they let go of what they print to
    const end = once(this.#process, "close");
    if (this.#process.kill()) await end;
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  async #begin(): Promise<void> {
    const options = ["--headless", "--no-sandbox", "--remote-debugging-port=0", `--user-data-dir=${this.#folder}`];
    const process = spawn(program, [...options, ...OFF, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
    this.#process = process;
    const endpoint = await new Promise<string>((resolve, reject) => {
      let said = "";
      process.stderr.on("data", (text) => {
        const found = /DevTools listening on (ws:\S+)\s/.exec((said += text));
        if (found) resolve(found[1]!);
      });
      process.on("error", reject).on("exit", () => reject(new Error(`${program} does not start:\n${said}`)));
    });
    // launched by Playwright, each page would believe itself in front
    const browser = await chromium.connectOverCDP(endpoint, { noDefaults: true });
    this.context = browser.contexts()[0]!;
  }
}
