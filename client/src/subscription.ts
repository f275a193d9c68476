import { attempt } from "./attempt.js";
import { Backlog } from "./backlog.js";
import { RowcastError } from "./error.js";
import { idOf, type Message, type PageRef, type Rows, type Subscribed } from "./messages.js";
import type { Abort, Filter } from "./part.js";
import type { Page } from "./window.js";

/** What a subscription asks for: of rows like `Row`, these columns. */
export interface SubscribeOptions<Row = any, Column extends string = string> {
  /** only rows for which it holds, such as `user_id=eq.123`; of several, all of them */
  filter?: Filter<Row> | readonly Filter<Row>[];
  /** only these columns */
  columns?: readonly Column[];
  /** `updated` tells the columns that changed as they were */
  old?: boolean;
  /** `updated` tells the key and the columns that differ, `deleted` and `left` the key */
  changed?: boolean;
  /** the newest change of each row, and a slow client is not cut off. Neither with `old` nor with `changed` */
  latest?: boolean;
  /** with `latest`: at most so often, in milliseconds; 500 unless told */
  every?: number;
  /** the current rows first, and again after a gap */
  snapshot?: boolean;
  /** resume after this cursor */
  since?: string;
  /** ends the subscription */
  signal?: Abort;
  /** changes that may wait for an iterator; 1,000 unless told */
  backlog?: number;
  /** @internal the first rows in an order, and again after a gap: what is asked for, each time */
  rows?(): { order: string | undefined; limit: number };
}

/** What is called with what comes. Whatever is absent is not missed. */
export interface Handlers<Item, Row = never> {
  /**
   * a change, or a notification; each once. Without it they wait for an iterator. Where it returns a promise, the cursor
   * waits for it; the next change does not
   */
  change?(change: Item): unknown;
  /** all current rows; the changes since follow */
  snapshot?(rows: Row[]): void;
  /** @internal it begins, or goes on: what came in part comes anew */
  begin?(): void;
  /** @internal a part of a page */
  page?(rows: Rows): void;
  /** live: at the start, and after each lost connection */
  ready?(subscribed: Subscribed): void;
  /** changes may be missing: load again what was made of them. With `snapshot` the rows follow by themselves */
  resync?(reason: string): void;
  /** `error.final` says whether the subscription has ended */
  error?(error: RowcastError): void;
  /** @internal all that came is the database at one moment: shows it, and returns what tells of it */
  cut?(): () => void;
  /** @internal it has ended */
  end?(reason: unknown): void;
}

/** Where cursors outlive the page: `localStorage`, `sessionStorage`, or the like. */
export interface CursorStorage {
  getItem(key: string): string | null;
  setItem(key: string, cursor: string): void;
  removeItem(key: string): void;
}

/** Keys in use: two subscriptions of one would move each other's cursor. */
const reserved = new WeakMap<CursorStorage, Set<string>>();

/** The key, or where it is in use the next one. */
function reserve(storage: CursorStorage, name: string): string {
  const keys = reserved.get(storage) ?? new Set();
  reserved.set(storage, keys);
  let key = name;
  for (let n = 2; keys.has(key); n++) key = `${name} ${n}`;
  keys.add(key);
  return key;
}

/** What a subscription needs of the connection that carries it. */
interface Carrier {
  ask(subscription: Subscription): void;
  rejoin(subscription: Subscription): void;
  remove(subscription: Subscription): void;
}

/**
 * The changes of a channel, or the notifications of a user, in order and each once, over lost connections. Owns the
 * position in that stream and what a message means; sockets are the connection's.
 */
export class Subscription<Item = any, Row = any> implements AsyncIterable<Item> {
  /** Settles with the first `subscribed`, or with what ended the subscription before. */
  readonly ready: Promise<Subscribed>;

  /** @internal the one that carries it */
  connection: Carrier | undefined;
  /** @internal tells it from others of its channel on that one */
  view: string | undefined;
  /** @internal the server has said something since it was asked */
  isAnswered = false;
  /** @internal every change follows */
  isLive = false;
  /** @internal it was, at some time */
  wasLive = false;
  /** @internal what came is shown cut by cut, and something is */
  isShown = false;
  /** @internal what is shown is of a moment since it began, or began anew */
  isCurrent = false;
  /** @internal the page that was asked for and has not come */
  page: Page | undefined;

  /** where the server goes on after a lost connection */
  #place: string | undefined;
  #cursor: string | undefined;
  readonly #handlers: Handlers<Item, Row>;
  #storage: CursorStorage | undefined;
  readonly #storageKey: string;
  readonly #backlog: Backlog<Item>;
  readonly #close = (): void => this.end();
  #resolve!: (subscribed: Subscribed) => void;
  #reject!: (reason: unknown) => void;
  /** cursors after changes that a handler has not dealt with, or that come behind one */
  #undealt: { place: string; isDealt: boolean }[] = [];
  /** of the snapshot that is arriving */
  #rows: Row[] = [];
  /** so many of them came before a cursor from which the rest follows */
  #kept = 0;
  /** that cursor: no position in the stream, since handlers were told of none of the rows */
  #part: string | undefined;
  /** snapshots in a row that were broken off */
  #broken = 0;
  #isEnded = false;
  /** it was left to begin anew: what was told meanwhile is no position to go on from */
  #isLeft = false;
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
    server?: string,
  ) {
    this.#handlers = handlers;
    // a page that begins has no rows: a cursor would keep them from it
    this.#storage = this.#hasRows ? undefined : storage;
    const name = `rowcast:${JSON.stringify([server, channel, options.filter, options.columns])}`;
    this.#storageKey = this.#storage ? reserve(this.#storage, name) : name;
    this.#cursor = this.#place = options.since || this.#stored((storage) => storage.getItem(this.#storageKey)) || undefined;
    this.#backlog = new Backlog(options.backlog ?? 1_000, (place) => this.#dealt(place), this.#close);
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ready.catch(() => {}); // nobody may be waiting
    options.signal?.addEventListener("abort", this.#close);
  }

  /** The position up to which everything was dealt with: all that came, less what waits for an iterator. */
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
    this.isAnswered = this.isLive = this.isCurrent = false;
    this.#rows.length = this.#kept;
    this.#isLeft = false;
    this.#handlers.begin?.();
    const { channel, view, options, id } = this;
    const { filter, columns, old, changed, latest, every, snapshot } = options;
    const rows = options.rows?.();
    // the rows come in pages; those that are kept when it is broken off do not come again
    const partial = snapshot || undefined;
    const telling = { old, changed, latest, every };
    return { type: "subscribe", channel, view, since: this.#part ?? this.#place, filter, columns, ...telling, snapshot, partial, rows, ref: id };
  }

  /** @internal The connection was lost. */
  lost(): void {
    // once for each time that something came
    const isBroken = this.isAnswered && this.#rows.length > 0;
    this.isAnswered = false;
    if (!isBroken || ++this.#broken <= 2) return;
    const text = `the connection was lost ${this.#broken} times amid the rows of ${this.channel}`;
    const error = new RowcastError("no_end", text, this.#broken >= 10);
    if (error.final) this.end(error);
    else this.tell(error);
  }

  /** @internal Asks for a page of what it follows. Over a lost connection it is asked for again. */
  ask(page: Page): void {
    this.page = page;
    if (this.isLive) this.connection?.ask(this);
  }

  /** @internal The command for the page that was asked for. */
  pageCommand({ n, ...which }: Page): object {
    const { channel, view, id, options } = this;
    const ref: PageRef = [id, n];
    return { type: "rows", channel, view, order: options.rows?.().order, ...which, ref };
  }

  /** @internal What it shows cannot be followed any more: the rows are read again. */
  reload(): void {
    this.isLive = this.isCurrent = false;
    this.#isLeft = true;
    this.connection?.rejoin(this);
    this.#moveTo(undefined);
  }

  /** @internal */
  get id(): string {
    return idOf(this.channel, this.view);
  }

  /** @internal */
  receive(message: Message): void {
    this.isAnswered = true;
    let dealing: PromiseLike<unknown> | undefined;
    switch (message.type) {
      case "realtime_update":
      case "notification":
        dealing = this.#hand(message as Item);
        break;
      case "snapshot":
        for (const row of message.rows) this.#rows.push(row as Row);
        if (message.cursor) this.#broken = 0;
        if (message.last) {
          this.#keep();
          const rows = this.#rows.splice(0);
          attempt(() => this.#handlers.snapshot?.(rows));
          break;
        }
        if (message.cursor && !this.#isLeft) this.#keep(message.cursor);
        return;
      case "rows":
        // with the first rows everything begins anew
        if (message.last && (!message.ref || message.ref[1] === this.page?.n)) this.page = undefined;
        attempt(() => this.#handlers.page?.(message));
        // what came meanwhile is behind that position
        if (message.ref) return;
        break;
      case "gap":
        this.#missed(message.reason);
        break;
      case "subscribed":
        this.#joined(message);
    }
    const { cursor } = message as { cursor?: string };
    if (cursor && !this.#isLeft) this.#moveTo(cursor, dealing);
  }

  /** @internal Shows what came, where it is shown by cuts; what is returned tells of it. */
  cut(): (() => void) | undefined {
    if (!this.#handlers.cut || !this.isLive) return;
    this.isShown = this.isCurrent = true;
    return this.#handlers.cut();
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
    if (this.#storage) reserved.get(this.#storage)?.delete(this.#storageKey);
    const reason = error ?? (signal?.aborted ? signal.reason : new RowcastError("closed", `${this.channel} was closed`));
    this.#reject(reason);
    this.#handlers.end?.(reason);
    if (error) this.tell(error);
  }

  #hand(item: Item): PromiseLike<unknown> | undefined {
    let dealing: any;
    if (this.#handlers.change) attempt(() => (dealing = this.#handlers.change!(item)));
    else if (!this.#backlog.push(item, (item as { cursor?: string }).cursor)) {
      const text = `the iterator of ${this.channel} is over ${this.#backlog.limit} changes behind`;
      this.end(new RowcastError("behind", text));
    }
    return dealing?.then && dealing;
  }

  #joined(subscribed: Subscribed): void {
    const gap = this.#gap;
    this.#gap = undefined;
    this.isLive = this.wasLive = true;
    this.isCurrent = !this.#handlers.cut;
    this.#resolve(subscribed);
    if (gap !== undefined) this.#resync(gap);
    attempt(() => this.#handlers.ready?.(subscribed));
    if (this.page) this.connection?.ask(this);
  }

  #missed(reason: string): void {
    if (this.#hasRows) {
      // as the answer to a cursor, the rows follow by themselves. From now on it is not what the table is
      const wasLive = this.isLive;
      this.isLive = this.isCurrent = false;
      // what is still told before it is left is no position to go on from
      this.#isLeft ||= wasLive;
      if (wasLive) this.connection?.rejoin(this);
      this.#backlog.clear();
      this.#rows.length = 0;
      this.#moveTo(undefined);
      this.#resync(reason);
    } else if (this.isLive) {
      this.#resync(reason);
    } else {
      this.#gap = reason;
    }
  }

  get #hasRows(): boolean {
    return !!(this.options.snapshot || this.options.rows);
  }

  #resync(reason: string): void {
    attempt(() => this.#handlers.resync?.(reason));
  }

  /** Keeps the rows so far over a lost connection, or none of them. */
  #keep(part?: string): void {
    this.#part = part;
    this.#kept = part ? this.#rows.length : 0;
  }

  #moveTo(place: string | undefined, dealing?: PromiseLike<unknown>): void {
    this.#place = place;
    if (!place) {
      this.#undealt = [];
      this.#keep();
    }
    if (place && (dealing || this.#undealt.length > 0)) this.#wait({ place, isDealt: !dealing }, dealing);
    else if (!place || this.#handlers.change || this.#backlog.isIdle) this.#dealt();
  }

  /** The cursor comes to a position when everything before it was dealt with, whether it went well or not. */
  #wait(entry: { place: string; isDealt: boolean }, dealing: PromiseLike<unknown> | undefined): void {
    this.#undealt.push(entry);
    const dealt = (): void => {
      entry.isDealt = true;
      while (this.#undealt[0]?.isDealt) this.#dealt(this.#undealt.shift()!.place);
    };
    dealing?.then(dealt, (error) => {
      attempt(() => {
        throw error;
      });
      dealt();
    });
  }

  #dealt(place = this.#place): void {
    this.#cursor = place;
    if (place) this.#stored((storage) => storage.setItem(this.#storageKey, place));
    else this.#stored((storage) => storage.removeItem(this.#storageKey));
  }

  /** A storage that is full, or forbidden, is used no longer. */
  #stored<Result>(use: (storage: CursorStorage) => Result, storage = this.#storage): Result | undefined {
    if (!storage) return;
    try {
      return use(storage);
    } catch (error) {
      this.#storage = undefined;
      // the cursor that it still has is behind: all since would come again
      try {
        storage.removeItem(this.#storageKey);
      } catch {}
      const text = `cursors are not kept: ${error}`;
      queueMicrotask(() => this.tell(new RowcastError("no_storage", text, false)));
    }
  }
}
