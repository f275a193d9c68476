/**
 * What stands before a server: serves pages, passes sockets on, and can be cut. A browser has no way to cut a socket
 * that is open.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";

export class Front {
  readonly #sockets = new Set<Duplex>();
  #server: Server | undefined;
  #port = 0;

  constructor(
    /** port of the server */
    readonly target: () => number,
    /** path → HTML, or a script */
    readonly pages: Record<string, string> = {},
  ) {}

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Begins, on the port that it had. */
  async open(): Promise<void> {
    const server = createServer((request, response) => {
      const page = this.pages[request.url!];
      const type = request.url!.endsWith(".js") ? "text/javascript" : "text/html; charset=utf-8";
      response.writeHead(page === undefined ? 404 : 200, { "content-type": type }).end(page);
    });
    server.on("upgrade", (request, near) => this.#pass(request, near));
    server.listen(this.#port, "127.0.0.1");
    await once(server, "listening");
    this.#port = (server.address() as { port: number }).port;
    this.#server = server;
  }

  /** Cuts every connection and takes no new one. */
  async cut(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  }

  #pass({ method, url, rawHeaders }: IncomingMessage, near: Duplex): void {
    const far = connect(this.target(), "127.0.0.1");
    far.write(`${method} ${url} HTTP/1.1\r\n`);
    for (let i = 0; i < rawHeaders.length; i += 2) far.write(`${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`);
    far.write("\r\n");
    this.#join(near, far);
    this.#join(far, near);
  }

  #join(from: Duplex | Socket, to: Duplex | Socket): void {
    this.#sockets.add(from);
    from.on("error", () => {}); // a close follows
    from.on("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
    from.pipe(to);
  }
}
