import { attempt } from "./attempt.js";
import type { RowcastError } from "./error.js";
import type { Change } from "./messages.js";
import type { Handlers, SubscribeOptions, Subscription } from "./subscription.js";

/** What identifies a row: the value of its key column, or a text made of several. */
export type Key = string | number;

/** What a collection asks for. */
export interface CollectionOptions<Row> extends Pick<SubscribeOptions, "filter" | "columns" | "signal"> {
  /** the table's primary key: its column, its columns, or a function that makes a key of them */
  key: (keyof Row & string) | readonly (keyof Row & string)[] | ((row: Row) => Key);
}

/** How a collection differs from what it was at the event before. */
export interface Difference<Row> {
  /** rows that are new or other than they were */
  readonly set: ReadonlyMap<Key, Row>;
  /** rows that are gone, as they were */
  readonly removed: ReadonlyMap<Key, Row>;
}

interface Events<Row> {
  /** once for all that came together */
  change: Difference<Row>;
  /** `error.final` says whether the rows are followed no longer */
  error: RowcastError;
}

/**
 * The rows of a table, kept equal to it. While they are read anew after a gap, those that were known stay. Owns the
 * rows; a row that did not change stays the same object.
 */
export class Collection<Row = any> implements ReadonlyMap<Key, Row> {
  /** Settles when the rows are those of the table, or with what ended the collection before. */
  readonly ready: Promise<void>;
  readonly #subscription: Subscription<Change<Row>, Row>;
  readonly #key: (row: Row) => Key;
  readonly #rows = new Map<Key, Row>();
  readonly #listeners = { change: new Set<(event: any) => void>(), error: new Set<(event: any) => void>() };
  /**
   * Transaction and key → rows that have that key beside the newest one. Only at the commit has a deferrable primary
   * key to be unique: `id = id + 1` may come as 1 → 2 and then 2 → 3, which moves another row than the one at 2.
   */
  readonly #hidden = new Map<string, number>();
  /** touched since the last event: the row before */
  #before = new Map<Key, Row | undefined>();

  /** @internal */
  constructor(
    { key, ...options }: CollectionOptions<Row>,
    subscribe: (options: SubscribeOptions, handlers: Handlers<Change<Row>, Row>) => Subscription<Change<Row>, Row>,
  ) {
    this.#key = toKey(key);
    this.#subscription = subscribe(
      { ...options, snapshot: true },
      {
        change: (change) => this.#apply(change),
        snapshot: (rows) => this.#replace(rows),
        ready: () => this.#compare(),
        error: (error) => {
          this.#compare();
          this.#emit("error", error);
        },
      },
    );
    this.ready = this.#subscription.ready.then(() => {});
    this.ready.catch(() => {}); // nobody may be waiting
  }

  /** Calls a listener at each event. Returns what ends that. */
  on<Name extends keyof Events<Row>>(event: Name, listener: (event: Events<Row>[Name]) => void): () => void {
    this.#listeners[event].add(listener);
    return () => this.#listeners[event].delete(listener);
  }

  /** Follows the table no longer, and has no more events. */
  close(): void {
    for (const listeners of Object.values(this.#listeners)) listeners.clear();
    this.#subscription.close();
  }

  get size(): number {
    return this.#rows.size;
  }
  get(key: Key): Row | undefined {
    return this.#rows.get(key);
  }
  has(key: Key): boolean {
    return this.#rows.has(key);
  }
  keys() {
    return this.#rows.keys();
  }
  values() {
    return this.#rows.values();
  }
  entries() {
    return this.#rows.entries();
  }
  [Symbol.iterator]() {
    return this.#rows.entries();
  }
  forEach(each: (row: Row, key: Key, rows: ReadonlyMap<Key, Row>) => void): void {
    for (const [key, row] of this.#rows) each(row, key, this);
  }

  #apply(change: Change<Row>): void {
    const { tx } = change;
    switch (change.action) {
      case "created":
      case "entered":
        this.#enter(change.data, tx);
        break;
      case "updated":
        if (!change.old) this.#set(this.#key(change.data), change.data);
        else {
          this.#leave({ ...change.data, ...change.old }, tx);
          this.#enter(change.data, tx);
        }
        break;
      case "deleted":
      case "left":
        this.#leave(change.data, tx);
        break;
      case "truncated":
        this.#replace([]);
    }
  }

  #enter(row: Row, tx: string): void {
    const key = this.#key(row);
    const hidden = `${tx} ${key}`;
    if (this.#rows.has(key)) this.#hidden.set(hidden, (this.#hidden.get(hidden) ?? 0) + 1);
    this.#set(key, row);
  }

  #leave(row: Row, tx: string): void {
    const key = this.#key(row);
    const hidden = `${tx} ${key}`;
    const count = this.#hidden.get(hidden);
    if (!count) this.#set(key, undefined);
    else if (count > 1) this.#hidden.set(hidden, count - 1);
    else this.#hidden.delete(hidden);
  }

  #replace(rows: Row[]): void {
    this.#hidden.clear();
    const gone = new Set(this.#rows.keys());
    for (const row of rows) {
      const key = this.#key(row);
      const isKnown = gone.delete(key) && JSON.stringify(this.#rows.get(key)) === JSON.stringify(row);
      if (!isKnown) this.#set(key, row);
    }
    for (const key of gone) this.#set(key, undefined);
  }

  #set(key: Key, row: Row | undefined): void {
    // no microtask: there is one after each message, and a transaction of a thousand rows is as many messages
    if (this.#before.size === 0) setTimeout(() => this.#compare());
    if (!this.#before.has(key)) this.#before.set(key, this.#rows.get(key));
    if (row === undefined) this.#rows.delete(key);
    else this.#rows.set(key, row);
  }

  #compare(): void {
    const [set, removed] = [new Map<Key, Row>(), new Map<Key, Row>()];
    for (const [key, before] of this.#before) {
      const row = this.#rows.get(key);
      if (row === before) continue;
      if (row === undefined) removed.set(key, before!);
      else set.set(key, row);
    }
    this.#before.clear();
    if (set.size + removed.size > 0) this.#emit("change", { set, removed });
  }

  #emit<Name extends keyof Events<Row>>(name: Name, event: Events<Row>[Name]): void {
    for (const listener of this.#listeners[name]) attempt(() => listener(event));
  }
}

function toKey<Row>(key: CollectionOptions<Row>["key"]): (row: Row) => Key {
  if (typeof key === "function") return key;
  if (typeof key === "string") return (row) => row[key] as Key;
  return (row) => JSON.stringify((key as (keyof Row)[]).map((column) => row[column]));
}
