import { attempt } from "./attempt.js";
import { RowcastError } from "./error.js";
import { toJson } from "./json.js";
import type { Change, Key } from "./messages.js";
import type { Part } from "./part.js";
import type { Handlers, SubscribeOptions, Subscription } from "./subscription.js";

/** The table's primary key: its column, its columns, or a function that makes a key of them. */
export type KeyOf<Row> = (keyof Row & string) | readonly (keyof Row & string)[] | ((row: Row) => Key);

/** What a collection asks for: of rows like `Row`, these columns. */
export interface CollectionOptions<Row, Column extends string = never>
  extends Pick<SubscribeOptions<Row, Column>, "filter" | "columns" | "changed" | "latest" | "every" | "signal"> {
  /** the table's primary key, which `columns` has to name */
  key: KeyOf<Part<Row, Column>>;
  /** rows that the page was rendered with: they are shown at once, and what has changed since follows */
  initial?: Initial<Part<Row, Column>> | undefined;
}

/** Rows, all that the filter lets through, and the cursor of when they were read: that of `rowcast.cursor()`. */
export interface Initial<Row> {
  readonly rows: readonly Row[];
  readonly cursor: string;
}

/** How a collection differs from what it was at the event before. */
export interface Difference<Row> {
  /** rows that are new or other than they were */
  readonly set: ReadonlyMap<Key, Row>;
  /** rows that are gone, as they were */
  readonly removed: ReadonlyMap<Key, Row>;
}

interface Events<Row> {
  /** once for each transaction that concerns it, or for several. All collections of the socket show the same moment by then */
  change: Difference<Row>;
  /** `error.final` says whether the rows are followed no longer */
  error: RowcastError;
}

/**
 * The rows of a table, as they were at some moment: it changes between transactions alone. While they are read anew after a
 * gap, those that were known stay. Owns the rows; a row that did not change stays the same object.
 */
export class Collection<Row = any> implements ReadonlyMap<Key, Row> {
  /** Settles when the rows are those of the table, or with what ended the collection before. */
  readonly ready: Promise<void>;
  /** @internal counts what was shown */
  version = 0;
  /** @internal the cursor at which the rows are what is shown */
  shownAt: string | undefined;
  /** @internal called with the transactions that came, once their rows are shown and told */
  onTransactions: ((transactions: readonly string[]) => void) | undefined;
  readonly #transactions = new Set<string>();
  readonly #subscription: Subscription<Change<Row>, Row>;
  readonly #key: (row: Row) => Key;
  /** an update has the key and what differs */
  readonly #isOfChanged: boolean;
  readonly #rows = new Map<Key, Row>();
  readonly #listeners = { change: new Set<(event: any) => void>(), error: new Set<(event: any) => void>() };
  /**
   * Transaction and key → rows that have that key beside the newest one. Only at the commit has a deferrable primary
   * key to be unique: `id = id + 1` may come as 1 → 2 and then 2 → 3, which moves another row than the one at 2.
   */
  readonly #hidden = new Map<string, number>();
  /** what came since: rows, and keys without one */
  readonly #next = new Map<Key, Row | undefined>();

  /** @internal */
  constructor(
    { key, initial, ...options }: { key: KeyOf<Row>; initial?: Initial<Row> | undefined } & SubscribeOptions,
    subscribe: (options: SubscribeOptions, handlers: Handlers<Change<Row>, Row>) => Subscription<Change<Row>, Row>,
  ) {
    this.#key = toKey(key, (error) => this.#emit("error", error));
    this.#isOfChanged = !!options.changed;
    for (const row of initial?.rows ?? []) this.#set(this.#key(row), row);
    this.#show();
    this.shownAt = initial?.cursor;
    let isReady!: () => void;
    let isOver!: (reason: unknown) => void;
    const shown = new Promise<void>((resolve, reject) => ([isReady, isOver] = [resolve, reject]));
    this.#subscription = subscribe(
      { ...options, snapshot: true, ...(initial ? { since: initial.cursor } : {}) },
      {
        change: (change) => this.#apply(change),
        snapshot: (rows) => this.#replace(rows),
        cut: () => {
          const tell = this.#show();
          this.shownAt = this.#subscription.cursor;
          return () => {
            isReady();
            tell();
            const came = [...this.#transactions];
            this.#transactions.clear();
            if (came.length) attempt(() => this.onTransactions?.(came));
          };
        },
        end: (reason) => isOver(reason),
        error: (error) => this.#emit("error", error),
      },
    );
    this.ready = this.#subscription.ready.then(() => shown);
    for (const promise of [shown, this.ready]) promise.catch(() => {}); // nobody may be waiting
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
  keys(): ReturnType<ReadonlyMap<Key, Row>["keys"]> {
    return this.#rows.keys();
  }
  values(): ReturnType<ReadonlyMap<Key, Row>["values"]> {
    return this.#rows.values();
  }
  entries(): ReturnType<ReadonlyMap<Key, Row>["entries"]> {
    return this.#rows.entries();
  }
  [Symbol.iterator](): ReturnType<ReadonlyMap<Key, Row>["entries"]> {
    return this.#rows.entries();
  }
  forEach(each: (row: Row, key: Key, rows: ReadonlyMap<Key, Row>) => void): void {
    for (const [key, row] of this.#rows) each(row, key, this);
  }

  #apply(change: Change<Row>): void {
    const { tx } = change;
    if (this.onTransactions) this.#transactions.add(tx);
    switch (change.action) {
      case "created":
      case "entered":
        this.#enter(change.data, tx);
        break;
      case "updated":
        if (!change.old) {
          const key = this.#key(change.data);
          this.#set(key, this.#isOfChanged && !change.omitted ? { ...this.#newest(key), ...change.data } : change.data);
        } else {
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
    if (this.#newest(key) !== undefined) this.#hidden.set(hidden, (this.#hidden.get(hidden) ?? 0) + 1);
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
    const gone = new Set([...this.#rows.keys(), ...this.#next.keys()]);
    for (const row of rows) {
      const key = this.#key(row);
      const isKnown = gone.delete(key) && toJson(this.#newest(key)) === toJson(row);
      if (!isKnown) this.#set(key, row);
    }
    for (const key of gone) this.#set(key, undefined);
  }

  #newest(key: Key): Row | undefined {
    return this.#next.has(key) ? this.#next.get(key) : this.#rows.get(key);
  }

  #set(key: Key, row: Row | undefined): void {
    this.#next.set(key, row);
  }

  /** Takes over what came; what is returned tells the listeners. */
  #show(): () => void {
    const [set, removed] = [new Map<Key, Row>(), new Map<Key, Row>()];
    for (const [key, row] of this.#next) {
      const before = this.#rows.get(key);
      if (row === before) continue;
      if (row === undefined) {
        removed.set(key, before!);
        this.#rows.delete(key);
      } else {
        set.set(key, row);
        this.#rows.set(key, row);
      }
    }
    this.#next.clear();
    this.#hidden.clear(); // no transaction is half there
    if (set.size + removed.size === 0) return () => {};
    this.version++;
    return () => this.#emit("change", { set, removed });
  }

  #emit<Name extends keyof Events<Row>>(name: Name, event: Events<Row>[Name]): void {
    for (const listener of this.#listeners[name]) attempt(() => listener(event));
  }
}

/** @internal Makes keys of rows. Tells once where one was rounded. */
export function toKey<Row>(key: KeyOf<Row>, tell: (error: RowcastError) => void): (row: Row) => Key {
  const keyOf = plainKey(key);
  let isUnsafe = false;
  return (row) => {
    const made = keyOf(row);
    // rows of different keys would be one; one of several columns is a text by now
    if (!isUnsafe && (isRounded(made) || [key].flat().some((column) => isRounded((row as any)[column])))) {
      isUnsafe = true;
      tell(new RowcastError("unsafe_key", `key ${made} is beyond 2^53: show it as text, in a generated column`, false));
    }
    return made;
  };
}

/** @internal Whether JSON.parse may have made another number of it. */
export function isRounded(value: unknown): boolean {
  return Number.isInteger(value) && !Number.isSafeInteger(value);
}

function plainKey<Row>(key: KeyOf<Row>): (row: Row) => Key {
  if (typeof key === "function") return key;
  if (typeof key === "string") return (row) => row[key] as Key;
  return (row) => toJson((key as (keyof Row)[]).map((column) => row[column]));
}
