import { attempt } from "./attempt.js";
import { isRounded, toKey, type Difference, type KeyOf } from "./collection.js";
import { RowcastError } from "./error.js";
import type { Change, Key } from "./messages.js";
import type { OrderColumn } from "./ordered.js";
import type { Order, Part } from "./part.js";
import type { Handlers, SubscribeOptions, Subscription } from "./subscription.js";
import { WindowRows, type Shown } from "./window.js";

/** What a window asks for: of rows like `Row`, these columns. */
export interface WindowOptions<Row, Column extends string = never>
  extends Pick<SubscribeOptions<Row, Column>, "filter" | "columns" | "signal"> {
  /** the table's primary key, which `columns` has to name */
  key: KeyOf<Part<Row, Column>>;
  /** by the primary key unless told. An index of the table has to serve it, and `columns` has to name its columns */
  order?: Order<Row> | readonly Order<Row>[];
  /** how many rows are shown: 100 unless told */
  limit?: number;
  /** how many there are is asked for too: exactly up to 10,000, else about */
  count?: boolean;
}

interface Events<Row> {
  /** once for each transaction that concerns it, or for several, and where more was loaded. `rows` has the rows by then */
  change: Difference<Row>;
  /** `error.final` says whether the rows are followed no longer */
  error: RowcastError;
}

interface Waiting {
  readonly promise: Promise<void>;
  resolve(): void;
  reject(reason: unknown): void;
}

/**
 * The first rows of a table in an order, as they were at some moment: as a collection, it changes between transactions alone.
 * Owns when pages are asked for; which rows they are is the window's state.
 */
export class RowWindow<Row = any> implements Shown<Row> {
  /** Settles when the rows are those of the table, or with what ended the window before. */
  readonly ready: Promise<void>;
  readonly #subscription: Subscription<Change<Row>, Row>;
  readonly #state: WindowRows<Row>;
  readonly #step: number;
  readonly #listeners = { change: new Set<(event: any) => void>(), error: new Set<(event: any) => void>() };
  /** what was shown when its listeners were told last */
  #told = new Map<Key, Row>();
  /** the callers that wait for rows */
  #waiting: Waiting | undefined = waiting();
  #isOver = false;

  /** @internal */
  constructor(
    { key, order, limit = 100, count, ...options }: WindowOptions<any, any>,
    subscribe: (options: SubscribeOptions, handlers: Handlers<Change<Row>, Row>) => Subscription<Change<Row>, Row>,
  ) {
    if (!(limit >= 1)) throw new RangeError(`limit of a window is ${limit}: it has to be at least 1`);
    const text: string | undefined = order === undefined ? undefined : [order].flat().join();
    this.#step = limit;
    // behind a place that was rounded, rows would be passed over, or come again and again
    const end = (text: string): void => this.#subscription.end(new RowcastError("unsafe_key", text));
    const keyOf = toKey(key as KeyOf<Row>, ({ message }) => end(message));
    this.#state = new WindowRows<Row>((row) => {
      for (const { column, type } of this.order) {
        if (type === "integer" && isRounded((row as any)[column])) end(`${column} is beyond 2^53: show it as text, in a generated column`);
      }
      return keyOf(row);
    }, limit);
    this.ready = this.#waiting!.promise;
    this.#subscription = subscribe(
      {
        ...options,
        rows: () => ({ order: text, limit: this.#state.first, ...(count ? { count: "exact" } : {}) }),
      },
      {
        change: (change) => this.#follow(() => this.#state.change(change)),
        begin: () => this.#state.begin(),
        page: (page) => this.#follow(() => this.#state.page(page)),
        ready: () => {
          if (!this.#state.isRead) this.#subscription.end(new RowcastError("not_supported", "this server knows no windows"));
        },
        cut: () => {
          const isOther = this.#state.cut();
          this.#ask();
          return () => this.#tell(isOther);
        },
        end: (reason) => this.#end(reason),
        error: (error) => this.#emit("error", error),
      },
    );
  }

  /** The first rows in the order: the same array until one of them changes, and an equal row stays the same object. */
  get rows(): readonly Row[] {
    return this.shown.rows;
  }
  get hasMore(): boolean {
    return this.shown.hasMore;
  }
  get isLoading(): boolean {
    return this.shown.isLoading;
  }
  get count(): number | undefined {
    return this.shown.count;
  }
  get isExact(): boolean | undefined {
    return this.shown.isExact;
  }
  /** @internal as the server has told it */
  get order(): readonly OrderColumn[] {
    return this.#state.order;
  }
  /** All of these at one moment. */
  get shown(): Shown<Row> {
    return this.#state.shown;
  }

  /** Calls a listener at each event. Returns what ends that. */
  on<Name extends keyof Events<Row>>(event: Name, listener: (event: Events<Row>[Name]) => void): () => void {
    this.#listeners[event].add(listener);
    return () => this.#listeners[event].delete(listener);
  }

  /**
   * Shows so many rows more: as many as `limit` unless told. Settles when they are there, or when there are no more. While
   * rows are on their way it asks for no others.
   */
  async loadMore(count = this.#step): Promise<void> {
    if (!(count >= 1)) throw new RangeError(`${count} rows more: it has to be at least 1`);
    if (this.#isOver) throw new RowcastError("closed", `${this.#subscription.channel} was closed`);
    if (this.#waiting || !this.hasMore) return this.#waiting?.promise;
    const { promise } = (this.#waiting = waiting());
    const isOther = this.#state.grow(count);
    this.#ask();
    this.#tell(isOther);
    return promise;
  }

  /** Follows the table no longer, and has no more events. */
  close(): void {
    for (const listeners of Object.values(this.#listeners)) listeners.clear();
    this.#subscription.close();
  }

  #follow(step: () => void): void {
    const { isLost } = this.#state;
    step();
    if (this.#state.isLost && !isLost) this.#subscription.reload();
  }

  #ask(): void {
    const page = this.#state.wish();
    if (page) this.#subscription.ask(page);
  }

  /** A caller that waits is told before the listeners, as `ready` of a collection is. */
  #tell(isOther: boolean): void {
    if (!this.isLoading) {
      this.#waiting?.resolve();
      this.#waiting = undefined;
    }
    if (!isOther) return;
    const [before, now] = [this.#told, new Map<Key, Row>()];
    for (const row of this.rows) now.set(this.#state.keyOf(row), row);
    const set = new Map([...now].filter(([key, row]) => before.get(key) !== row));
    const removed = new Map([...before].filter(([key]) => !now.has(key)));
    this.#told = now;
    this.#emit("change", { set, removed });
  }

  #end(reason: unknown): void {
    this.#isOver = true;
    this.#waiting?.reject(reason);
    this.#waiting = undefined;
  }

  #emit<Name extends keyof Events<Row>>(name: Name, event: Events<Row>[Name]): void {
    for (const listener of this.#listeners[name]) attempt(() => listener(event));
  }
}

function waiting(): Waiting {
  let [resolve, reject] = [(): void => {}, (_: unknown): void => {}];
  const promise = new Promise<void>((done, failed) => ([resolve, reject] = [done, failed]));
  promise.catch(() => {}); // nobody may be waiting
  return { promise, resolve, reject };
}
