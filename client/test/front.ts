/**
 * What stands before a server: serves pages, passes sockets and other requests on, and can be cut. A browser has no way to cut a socket
 * that is open.
 */
import { once } from "node:events";
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
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
    const server = createServer((asked, response) => {
      const page = this.pages[asked.url!];
      if (page === undefined) return this.#ask(asked, response);
      const type = asked.url!.endsWith(".js") ? "text/javascript" : "text/html; charset=utf-8";
      response.writeHead(200, { "content-type": type }).end(page);
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

  /** Answers as the server does, or not at all. */
  #ask(asked: IncomingMessage, response: ServerResponse): void {
    const { method, url, headers } = asked;
    const far = request({ host: "127.0.0.1", port: this.target(), method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    far.on("error", () => response.destroy());
    asked.pipe(far);
  }

  /** Passes nothing on any more on the connections that are open, and leaves them open. */
  hush(): void {
    for (const socket of this.#sockets) socket.unpipe();
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
