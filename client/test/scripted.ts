/** A WebSocket server whose every word the test says. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { WebSocketServer, type WebSocket } from "ws";
import { Queue } from "./queue.js";

/** The messages that docs/reference/protocol.md shows and the server is tested against. */
export const golden = JSON.parse(readFileSync(new URL("../../tests/golden/messages.json", import.meta.url), "utf8"));

/** A change of pet `id`, after which the place is `cursor`. */
export function update(id: number, cursor: string, more: object = {}): object {
  return { ...golden.realtime_update, id, cursor, data: { pet_id: id, name: "Luna" }, ...more };
}

export function subscribed(cursor: string, more: object = {}): object {
  return { type: "subscribed", channel: "pets", cursor, recovered: false, replayed: 0, ...more };
}

export function snapshot(rows: object[], cursor?: string): object {
  return { type: "snapshot", channel: "pets", rows, last: cursor !== undefined, cursor };
}

export function gap(reason: string): object {
  return { ...golden.gap, reason };
}

export class Scripted {
  readonly #sockets = new Queue<Peer>();
  readonly #peers: Peer[] = [];

  private constructor(readonly server: WebSocketServer) {
    server.on("connection", (socket, request) => {
      const peer = new Peer(socket, request.url!, request.headers["sec-websocket-protocol"]!.split(","));
      this.#peers.push(peer);
      this.#sockets.push(peer);
    });
  }

  static async start(port = 0): Promise<Scripted> {
    const handleProtocols = () => "rowcast.v1";
    const server = new WebSocketServer({ host: "127.0.0.1", port, handleProtocols });
    await once(server, "listening");
    return new Scripted(server);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The next socket that a client opens. */
  socket(): Promise<Peer> {
    return this.#sockets.next();
  }

  /** How many sockets there were. */
  get count(): number {
    return this.#peers.length;
  }

  async stop(): Promise<void> {
    for (const peer of this.#peers) peer.cut();
    this.server.close();
    await once(this.server, "close");
  }
}

/** The server's end of a socket. */
export class Peer {
  readonly #commands = new Queue<any>();
  readonly closed: Promise<unknown>;

  constructor(
    readonly socket: WebSocket,
    readonly path: string,
    readonly protocols: string[],
  ) {
    socket.on("message", (data) => this.#commands.push(JSON.parse(String(data))));
    this.closed = once(socket, "close");
  }

  /** The client's next command. */
  command(): Promise<any> {
    return this.#commands.next();
  }

  /** Commands that came and were not taken. */
  get unread(): readonly any[] {
    return this.#commands.rest;
  }

  send(...messages: object[]): void {
    for (const message of messages) this.socket.send(JSON.stringify(message));
  }

  close(code: number, reason = ""): void {
    this.socket.close(code, reason);
  }

  /** Ends it without a close frame. */
  cut(): void {
    this.socket.terminate();
  }
}
