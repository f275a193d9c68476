import { attempt } from "./attempt.js";
import { Collection, type CollectionOptions } from "./collection.js";
import { Connection, STATES, type Host, type State } from "./connection.js";
import { RowcastError } from "./error.js";
import { userChannel, type Change, type Notification } from "./messages.js";
import type { Part } from "./part.js";
import { RowWindow, type WindowOptions } from "./row-window.js";
import type { Socket } from "./socket.js";
import { Subscription, type CursorStorage, type Handlers, type SubscribeOptions } from "./subscription.js";
import type { Token } from "./token.js";

/** How to connect. */
export interface ConnectOptions {
  /** a JWT, or a function that is asked for one at each connection, and before one ends */
  token?: Token;
  /** where there is none in `globalThis` (Node 20): that of the package `ws` */
  WebSocket?: new (url: string, protocols: string[]) => Socket;
  /** in place of `JSON.parse`, which rounds numbers of more than 15 digits */
  parse?: (text: string) => any;
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
  url: string | { readonly href: string },
  options: ConnectOptions = {},
): Client<Channels> {
  return new Client(url, options);
}

/** Subscriptions and collections of one server. Owns the connections that carry them. */
export class Client<Channels extends object = Record<string, any>> {
  /** @internal as it was given */
  readonly url: string;
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
  constructor(url: string | { readonly href: string }, options: ConnectOptions) {
    // a path is the page's, and where pages are rendered there is none
    this.url = String(url);
    if (!isPath(this.url)) baseOf(this.url);
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
  subscribe<Name extends keyof Channels & string, Column extends keyof Channels[Name] & string = never>(
    channel: Name,
    options: SubscribeOptions<Channels[Name], Column> = {},
    handlers: Handlers<Change<Part<Channels[Name], Column>>, Part<Channels[Name], Column>> = {},
  ): Subscription<Change<Part<Channels[Name], Column>>, Part<Channels[Name], Column>> {
    return this.#open(new Subscription(channel, options, handlers, this.#options.storage, this.url));
  }

  /** The notifications of a user, for handlers or an iterator. */
  notifications<Data = any>(
    user: string | number,
    options: NotificationOptions = {},
    handlers: Handlers<Notification<Data>> = {},
  ): Subscription<Notification<Data>, never> {
    return this.#open(new Subscription(userChannel(user), options, handlers, this.#options.storage, this.url));
  }

  /** The rows of a channel's table, kept equal to it. */
  collection<Name extends keyof Channels & string, Column extends keyof Channels[Name] & string = never>(
    channel: Name,
    options: CollectionOptions<Channels[Name], Column>,
  ): Collection<Part<Channels[Name], Column>> {
    return new Collection(options, (wishes, handlers) =>
      this.#open(new Subscription(channel, wishes, handlers)),
    );
  }

  /** The first rows of a channel's table in an order, kept equal to what Postgres would give. */
  window<Name extends keyof Channels & string, Column extends keyof Channels[Name] & string = never>(
    channel: Name,
    options: WindowOptions<Channels[Name], Column>,
  ): RowWindow<Part<Channels[Name], Column>> {
    return new RowWindow(options, (wishes, handlers) => this.#open(new Subscription(channel, wishes, handlers)));
  }

  /**
   * Settles when collections and windows show what a cursor of the database speaks of, such as one of `rowcast.cursor()` that
   * an answer of your application has, and handlers were called with it.
   */
  async sync(cursor: string): Promise<void> {
    await Promise.all([...this.#connections].map((connection) => connection.sync(cursor)));
  }

  /** The device may have slept, or the network be back: asks now whether the server is there. Browsers tell it by themselves. */
  wake(): void {
    this.#wake();
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
    const { token, WebSocket = globalThis.WebSocket, parse = (text) => JSON.parse(text) } = this.#options;
    if (!WebSocket) throw new TypeError("no WebSocket here: pass that of the package ws");
    return {
      base: baseOf(this.url),
      token,
      parse,
      WebSocket,
      place: (subscription) => this.#place(subscription),
      forget: (connection) => this.#connections.delete(connection),
      changed: () => this.#changed(),
    };
  }
}

const isPath = (url: string): boolean => /^\/(?!\/)/.test(url);

/** Where sockets begin, of `https://example.com/live` or of a path on the page's host. Without `URL`: React Native has half of it. */
function baseOf(url: string): string {
  const { host, protocol } = globalThis.location ?? {};
  const [, scheme = protocol, rest] = /^(\w+:)?\/\/([^?#\s]+)$/.exec(isPath(url) && host ? `//${host}${url}` : url) ?? [];
  if (!rest || !/^(http|ws)s?:$/.test(scheme ?? "")) {
    const text = `${url} is no address of a server: give https://example.com, without a query, or a path of the page's host`;
    throw new TypeError(text);
  }
  return `ws${/^(http|ws)s/.test(scheme!) ? "s" : ""}://${rest.replace(/\/$/, "")}`;
}
