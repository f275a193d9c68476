import { attempt } from "./attempt.js";
import { Backlog } from "./backlog.js";
import type { Connection } from "./connection.js";
import { RowcastError } from "./error.js";
import type { Message, Subscribed } from "./messages.js";

/** What a subscription asks for. */
export interface SubscribeOptions {
  /** only rows for which it holds, such as `user_id=eq.123`; of several, all of them */
  filter?: string | string[];
  /** only these columns */
  columns?: string[];
  /** `updated` tells the columns that changed as they were */
  old?: boolean;
  /** the current rows first, and again after a gap */
  snapshot?: boolean;
  /** resume after this cursor */
  since?: string;
  /** ends the subscription */
  signal?: AbortSignal;
  /** changes that may wait for an iterator; 1,000 unless told */
  backlog?: number;
}

/** What is called with what comes. Whatever is absent is not missed. */
export interface Handlers<Item, Row = never> {
  /** a change, or a notification; each once. Without it they wait for an iterator */
  change?(change: Item): void;
  /** all current rows; the changes since follow */
  snapshot?(rows: Row[]): void;
  /** live: at the start, and after each lost connection */
  ready?(subscribed: Subscribed): void;
  /** changes may be missing: load again what was made of them. With `snapshot` the rows follow by themselves */
  resync?(reason: string): void;
  /** `error.final` says whether the subscription has ended */
  error?(error: RowcastError): void;
}

/** Where cursors outlive the page: `localStorage`, `sessionStorage`, or the like. */
export interface CursorStorage {
  getItem(key: string): string | null;
  setItem(key: string, cursor: string): void;
  removeItem(key: string): void;
}

/**
 * The changes of a channel, or the notifications of a user, in order and each once, over lost connections. Owns the
 * place in that stream and what a message means; sockets are the connection's.
 */
export class Subscription<Item = any, Row = any> implements AsyncIterable<Item> {
  /** Settles with the first `subscribed`, or with what ended the subscription before. */
  readonly ready: Promise<Subscribed>;

  /** @internal the one that carries it */
  connection: Connection | undefined;
  /** @internal the server has said something since it was asked */
  isAnswered = false;
  /** @internal every change follows */
  isLive = false;

  /** where the server goes on after a lost connection */
  #place: string | undefined;
  #cursor: string | undefined;
  readonly #handlers: Handlers<Item, Row>;
  readonly #storage: CursorStorage | undefined;
  readonly #storageKey: string;
  readonly #backlog: Backlog<Item>;
  readonly #close = (): void => this.end();
  #resolve!: (subscribed: Subscribed) => void;
  #reject!: (reason: unknown) => void;
  /** of the snapshot that is arriving */
  #rows: Row[] = [];
  #isEnded = false;
  /** the reason of a gap that is told when the subscription is live, so that what is loaded then has no hole */
  #gap: string | undefined;

  /** @internal */
  constructor(
    /** @internal the channel, as the wire names it */
    readonly channel: string,
    /** @internal */
    readonly options: SubscribeOptions,
    handlers: Handlers<Item, Row>,
    storage?: CursorStorage,
  ) {
    this.#handlers = handlers;
    this.#storage = storage;
    this.#storageKey = `rowcast:${JSON.stringify([channel, options.filter, options.columns])}`;
    this.#cursor = this.#place = options.since || storage?.getItem(this.#storageKey) || undefined;
    this.#backlog = new Backlog(options.backlog ?? 1_000, () => this.#dealt(), this.#close);
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ready.catch(() => {}); // nobody may be waiting
    options.signal?.addEventListener("abort", this.#close);
  }

  /** The place up to which everything was dealt with: all that came, less what waits for an iterator. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  /** Ends it. An iterator takes what has come and ends too. */
  close(): void {
    this.end();
  }

  /** The changes, one by one. There are none where a `change` handler takes them. */
  [Symbol.asyncIterator](): AsyncIterator<Item, undefined> {
    return this.#backlog;
  }

  /** @internal Begins, or goes on: the command that asks for it. */
  begin(): object {
    this.isAnswered = this.isLive = false;
    this.#rows = [];
    const { channel, options } = this;
    const { filter, columns, old, snapshot } = options;
    return { type: "subscribe", channel, since: this.#place, filter, columns, old, snapshot, ref: channel };
  }

  /** @internal */
  receive(message: Message): void {
    this.isAnswered = true;
    switch (message.type) {
      case "realtime_update":
      case "notification":
        this.#hand(message as Item);
        break;
      case "snapshot":
        for (const row of message.rows) this.#rows.push(row as Row);
        if (message.last) {
          const rows = this.#rows.splice(0);
          attempt(() => this.#handlers.snapshot?.(rows));
        }
        break;
      case "gap":
        this.#missed(message.reason);
        break;
      case "subscribed":
        this.#joined(message);
    }
    if ("cursor" in message && message.cursor) this.#moveTo(message.cursor);
  }

  /** @internal */
  tell(error: RowcastError): void {
    attempt(() => this.#handlers.error?.(error));
  }

  /** @internal */
  end(error?: RowcastError): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const { signal } = this.options;
    signal?.removeEventListener("abort", this.#close);
    this.connection?.remove(this);
    this.#backlog.end(error);
    this.#reject(error ?? (signal?.aborted ? signal.reason : new RowcastError("closed", `${this.channel} was closed`)));
    if (error) this.tell(error);
  }

  #hand(item: Item): void {
    if (this.#handlers.change) attempt(() => this.#handlers.change!(item));
    else if (!this.#backlog.push(item)) {
      const text = `the iterator of ${this.channel} is more than ${this.#backlog.limit} changes behind`;
      this.end(new RowcastError("behind", text));
    }
  }

  #joined(subscribed: Subscribed): void {
    const gap = this.#gap;
    this.#gap = undefined;
    this.isLive = true;
    this.#resolve(subscribed);
    if (gap !== undefined) this.#resync(gap);
    attempt(() => this.#handlers.ready?.(subscribed));
  }

  #missed(reason: string): void {
    if (this.options.snapshot) {
      // as the answer to a place, the rows follow by themselves
      if (this.isLive) this.connection?.rejoin(this);
      this.#backlog.clear();
      this.#moveTo(undefined);
      this.#resync(reason);
    } else if (this.isLive) {
      this.#resync(reason);
    } else {
      this.#gap = reason;
    }
  }

  #resync(reason: string): void {
    attempt(() => this.#handlers.resync?.(reason));
  }

  #moveTo(place: string | undefined): void {
    this.#place = place;
    if (!place || this.#handlers.change || this.#backlog.isIdle) this.#dealt();
  }

  #dealt(): void {
    this.#cursor = this.#place;
    if (this.#place) this.#storage?.setItem(this.#storageKey, this.#place);
    else this.#storage?.removeItem(this.#storageKey);
  }
}
