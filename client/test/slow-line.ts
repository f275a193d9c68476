/** A line that carries so many bytes a second from a server, and makes the server wait. The other way nothing waits. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server } from "node:net";
import { pipeline } from "node:stream/promises";
import { setTimeout } from "node:timers/promises";

export class SlowLine {
  #server!: Server;
  /** bytes, of all connections */
  passed = 0;
  readonly #waiting = new Set<() => void>();

  private constructor(
    /** port of the server */
    readonly target: number,
    /** bytes a second, of each connection */
    readonly rate: number,
  ) {}

  static async open(target: number, rate: number): Promise<SlowLine> {
    const line = new SlowLine(target, rate);
    line.#server = createServer((near) => {
      const far = connect(target, "127.0.0.1");
      // either end may be cut at any moment, which ends both
      void pipeline(near, far).catch(() => {});
      void pipeline(far, (chunks: AsyncIterable<Buffer>) => line.#pace(chunks), near).catch(() => {});
    });
    line.#server.listen(0, "127.0.0.1");
    await once(line.#server, "listening");
    return line;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Waits until so many more bytes have passed. */
  passes(bytes: number): Promise<void> {
    const wanted = this.passed + bytes;
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.passed < wanted) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
    });
  }

  /** Takes no more connections. Those that are open end with either of their ends. */
  close(): void {
    this.#server.close();
  }

  /** Lets a fiftieth of a second's bytes pass at once, and the next ones when it is time for them. */
  async *#pace(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const most = Math.ceil(this.rate / 50);
    let due = performance.now();
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += most) {
        const part = chunk.subarray(at, at + most);
        const now = performance.now();
        if (due > now) await setTimeout(due - now);
        // what was not used in silence is not saved up
        due = Math.max(due, now - 20) + (part.length / this.rate) * 1_000;
        this.passed += part.length;
        yield part;
        for (const look of this.#waiting) look();
      }
    }
  }
}
