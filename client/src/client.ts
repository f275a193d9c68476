import { attempt } from "./attempt.js";
import { Collection, type CollectionOptions } from "./collection.js";
import { Connection, STATES, type Host, type Socket, type State } from "./connection.js";
import { RowcastError } from "./error.js";
import { userChannel, type Change, type Notification } from "./messages.js";
import { Subscription, type CursorStorage, type Handlers, type SubscribeOptions } from "./subscription.js";
import type { Token } from "./token.js";

/** How to connect. */
export interface ConnectOptions {
  /** a JWT, or a function that is asked for one at each connection, and before one ends */
  token?: Token;
  /** where there is none in `globalThis` (Node 20): that of the package `ws` */
  WebSocket?: new (url: string, protocols: string[]) => Socket;
  /** where the cursors of subscriptions outlive the page; collections need none */
  storage?: CursorStorage;
}

/** What notifications can ask for. */
export type NotificationOptions = Pick<SubscribeOptions, "since" | "signal" | "backlog">;

/**
 * Connects to a rowcast server: `https://live.example.com`, or a path of the page's own host. `Channels` says which
 * rows a channel has: `connect<{ pets: Pet }>("/")`. A socket is opened with the first subscription.
 */
export function connect<Channels extends object = Record<string, any>>(
  url: string | URL,
  options: ConnectOptions = {},
): Client<Channels> {
  return new Client(url, options);
}

/** Subscriptions and collections of one server. Owns the connections that carry them. */
export class Client<Channels extends object = Record<string, any>> {
  readonly #url: string | URL;
  readonly #options: ConnectOptions;
  readonly #connections = new Set<Connection>();
  readonly #wake = (): void => {
    for (const connection of this.#connections) connection.wake();
  };
  readonly #appear = (): void => {
    if (document.visibilityState === "visible") this.#wake();
  };
  readonly #listeners = new Set<(state: State) => void>();
  #host: Host | undefined;
  #state: State = "idle";
  #isClosed = false;

  /** @internal */
  constructor(url: string | URL, options: ConnectOptions) {
    this.#url = url;
    this.#options = options;
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#appear);
  }

  /** How things stand: the worst of all subscriptions. */
  get state(): State {
    return this.#state;
  }

  /** Calls a listener when the state has changed. Returns what ends that. */
  on(event: "state", listener: (state: State) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The changes of a channel, for handlers or an iterator. */
  subscribe<Name extends keyof Channels & string>(
    channel: Name,
    options: SubscribeOptions = {},
    handlers: Handlers<Change<Channels[Name]>, Channels[Name]> = {},
  ): Subscription<Change<Channels[Name]>, Channels[Name]> {
    return this.#open(new Subscription(channel, options, handlers, this.#options.storage));
  }

  /** The notifications of a user, for handlers or an iterator. */
  notifications<Data = any>(
    user: string | number,
    options: NotificationOptions = {},
    handlers: Handlers<Notification<Data>> = {},
  ): Subscription<Notification<Data>, never> {
    return this.#open(new Subscription(userChannel(user), options, handlers, this.#options.storage));
  }

  /** The rows of a channel's table, kept equal to it. */
  collection<Name extends keyof Channels & string>(
    channel: Name,
    options: CollectionOptions<Channels[Name]>,
  ): Collection<Channels[Name]> {
    return new Collection(options, (wishes, handlers) =>
      this.#open(new Subscription(channel, wishes, handlers)),
    );
  }

  /** Ends everything: subscriptions, collections, sockets. */
  close(): void {
    this.#isClosed = true;
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#appear);
    for (const connection of this.#connections) connection.close();
  }

  #open<Item, Row>(subscription: Subscription<Item, Row>): Subscription<Item, Row> {
    if (this.#isClosed) throw new RowcastError("closed", "the client was closed");
    if (subscription.options.signal?.aborted) subscription.end();
    else this.#place(subscription);
    return subscription;
  }

  #place(subscription: Subscription): void {
    const found = [...this.#connections].find((connection) => connection.takes(subscription));
    this.#host ??= this.#makeHost();
    if (found) found.add(subscription);
    else this.#connections.add(new Connection(this.#host, subscription));
    this.#changed();
  }

  #changed(): void {
    const states = [...this.#connections].map((connection) => STATES.indexOf(connection.state));
    const state = STATES[Math.max(0, ...states)]!;
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of this.#listeners) attempt(() => listener(state));
  }

  /** Not before it is needed: where a page is rendered on its server there may be no `location`, and no WebSocket. */
  #makeHost(): Host {
    const { token, WebSocket = globalThis.WebSocket } = this.#options;
    if (!WebSocket) throw new TypeError("there is no WebSocket here: pass that of the package ws");
    const { protocol, host, pathname } = new URL(this.#url, globalThis.location?.href);
    return {
      base: protocol.replace("http", "ws") + "//" + host + pathname.replace(/\/$/, ""),
      token,
      WebSocket,
      place: (subscription) => this.#place(subscription),
      forget: (connection) => this.#connections.delete(connection),
      changed: () => this.#changed(),
    };
  }
}
