/** Collections of TanStack DB that a rowcast server keeps equal to tables. */
import type {
  CollectionConfig,
  LoadSubsetOptions,
  StringCollationConfig,
  SyncAppliedReceipt,
  SyncConfig,
} from "@tanstack/db";
import type { Client, Collection, CollectionOptions, Filter, Initial, Key, Part, RowWindow } from "./index.js";
import { RowcastError } from "./index.js";
import { toKey } from "./collection.js";
import { filtersOf, orderOf, orderText, upTo } from "./conditions.js";

/** Transactions that were seen are remembered, since the answer of the application may come behind their rows. */
const REMEMBERED = 1_000;
/** Types whose order TanStack DB has too, however it sorts texts. */
const ALIKE = ["integer", "number", "boolean", "uuid", "date"];
/** A page may shrink while its rows are asked for: then it is read again, so often. */
const READS = 5;

/** What is synced, and everything that TanStack DB has for a collection. */
export type RowcastCollectionConfig<Row extends object, Column extends string = never> = Omit<
  CollectionConfig<Part<Row, Column> & object, Key, never, RowcastUtils>,
  "sync" | "getKey" | "utils" | "syncMode" | "schema"
> &
  Pick<CollectionOptions<Row, Column>, "key" | "columns"> & {
    /** only rows for which it holds */
    filter?: Filter<Row> | readonly Filter<Row>[];
    /**
     * `eager`: all of them. `on-demand`: what queries ask for. `progressive`: what queries ask for, until all have come.
     * `eager` unless told
     */
    syncMode?: "eager" | "on-demand" | "progressive";
  };

/** What a collection can wait for, in a handler that has written. */
export type RowcastUtils = {
  /**
   * Settles when the rows of a transaction have come: `pg_current_xact_id()::text`, asked for in it. Fails after `timeout`
   * milliseconds, 5,000 unless told: where it changed no row that the collection has, nothing of it comes.
   */
  awaitTxId(tx: string | number | bigint, timeout?: number): Promise<void>;
  /** Settles when all has come up to a cursor, such as one of `rowcast.cursor()` that was asked for after the commit. */
  awaitCursor(cursor: string): Promise<void>;
};

/** Options of `createCollection`: a collection of the rows of a channel. */
export function rowcastCollectionOptions<
  Channels extends object,
  Name extends keyof Channels & string,
  Column extends keyof Channels[Name] & string = never,
>(
  client: Client<Channels>,
  channel: Name,
  { key, columns, filter, syncMode = "eager", ...others }: RowcastCollectionConfig<Channels[Name] & object, Column>,
): CollectionConfig<Part<Channels[Name], Column> & object, Key, never, RowcastUtils> & {
  utils: RowcastUtils;
  defaultStringCollation: StringCollationConfig;
} {
  type Row = Part<Channels[Name], Column> & object;
  const getKey = toKey<any>(key as any, () => {}) as (row: Row) => Key;
  const transactions = new Transactions();
  const own = filter ? ([filter].flat() as string[]) : [];
  const open = (filters: readonly string[], initial?: Initial<Row>): Collection<Row> =>
    client.collection<Name, Column>(channel, { key, columns, filter: filters.length ? filters : undefined, initial } as any) as unknown as Collection<Row>;

  const sync: SyncConfig<Row, Key>["sync"] = (run) => {
    const kept = Kept.of<Row>(run, JSON.stringify([channel, own, columns]));
    const rows = new Rows<Row>(run, open, transactions, kept);
    const fail = (error: unknown): void => {
      if (!rows.isClosed) run.markError(error);
    };
    /** All rows: those that were kept, and what has changed since. */
    async function followAll(): Promise<void> {
      const initial = await rows.start(syncMode === "eager");
      if (!rows.isClosed) await rows.openWhole(own, initial).ready;
    }

    if (syncMode === "eager") {
      followAll().then(() => run.markReady(), fail);
      return () => rows.close();
    }
    let isWhole = false;
    const started = syncMode === "progressive" ? followAll().then(() => void (isWhole = true), fail) : rows.start(false);
    if (syncMode === "on-demand") started.catch(fail);
    run.markReady();
    /** what each request has opened */
    const asked = new Map<LoadSubsetOptions, Subset<Row>[]>();

    /** Follows what a list of filters selects until the request is released. */
    async function follow(options: LoadSubsetOptions, filters: readonly string[]): Promise<Subset<Row> | undefined> {
      const held = asked.get(options);
      if (!held) return undefined;
      const subset = rows.open([...own, ...filters]);
      held.push(subset);
      await subset.ready;
      return subset;
    }

    /** Follows the first rows in an order, and whatever comes between them later. */
    async function followFirst(options: LoadSubsetOptions, filters: readonly string[], limit: number): Promise<void> {
      const directions = orderOf(options.orderBy!);
      for (let read = 1; asked.has(options); read++) {
        const order = directions.map(orderText);
        const all = [...own, ...filters];
        const window: RowWindow<any> = (client as Client<any>).window(channel, { key, columns, filter: all.length ? all : undefined, order, limit } as any);
        try {
          await window.ready;
          const wrong = directions.find(({ isLexical }, i) => !isLexical && !ALIKE.includes(window.order[i]!.type));
          if (wrong) throw new RowcastError("bad_order", `${wrong.column} is ordered by bytes in the database: say stringSort: "lexical"`);
          const [first] = directions;
          const end = window.hasMore ? upTo(first!, window.rows.at(-1)[first!.column]) : [];
          const subset = await follow(options, [...filters, ...end]);
          if (!subset || !window.hasMore || subset.collection.size >= limit || read === READS) return;
          // rows have left it meanwhile
          const held = asked.get(options);
          if (held?.includes(subset)) rows.release(held.splice(held.lastIndexOf(subset), 1)[0]!);
        } finally {
          window.close();
        }
      }
    }

    function release(options: LoadSubsetOptions): void {
      const held = asked.get(options) ?? [];
      asked.delete(options);
      for (const subset of held) rows.release(subset);
    }

    async function load(options: LoadSubsetOptions): Promise<void> {
      const { where, cursor, orderBy, limit, offset = 0 } = options;
      asked.set(options, []);
      try {
        if (orderBy?.length && limit) {
          const loads = filtersOf(where, cursor?.whereFrom).map((filters) =>
            followFirst(options, filters, limit + (cursor ? 0 : offset)),
          );
          if (cursor) loads.push(...filtersOf(where, cursor.whereCurrent).map(async (filters) => void (await follow(options, filters))));
          await Promise.all(loads);
        } else {
          await Promise.all(filtersOf(where).map((filters) => follow(options, filters)));
        }
      } catch (error) {
        release(options);
        throw error;
      }
      await rows.settled();
    }

    return {
      cleanup: () => rows.close(),
      loadSubset: (options) => isWhole || load(options),
      unloadSubset: release,
    };
  };

  return {
    // as the server orders; TanStack DB would order by the browser's language
    defaultStringCollation: { stringSort: "lexical" },
    ...others,
    getKey,
    syncMode: syncMode === "eager" ? "eager" : "on-demand",
    sync: { sync, rowUpdateMode: "full" },
    utils: {
      awaitTxId: (tx: string | number | bigint, timeout = 5_000) => transactions.wait(String(tx), timeout),
      awaitCursor: (cursor: string) => client.sync(cursor),
    },
  } as any;
}

/** The transactions whose rows have come, and the callers that wait for one. */
class Transactions {
  readonly #seen = new Set<string>();
  readonly #waiting = new Map<string, Set<() => void>>();

  came(transactions: readonly string[]): void {
    for (const tx of transactions) {
      this.#seen.add(tx);
      for (const run of this.#waiting.get(tx) ?? []) run();
    }
    for (const tx of this.#seen) {
      if (this.#seen.size <= REMEMBERED) break;
      this.#seen.delete(tx);
    }
  }

  wait(tx: string, timeout: number): Promise<void> {
    if (this.#seen.has(tx)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(tx) ?? new Set();
      this.#waiting.set(tx, waiting);
      const end = (settle: () => void) => () => {
        clearTimeout(timer);
        waiting.delete(done);
        if (waiting.size === 0) this.#waiting.delete(tx);
        settle();
      };
      const text = `nothing of transaction ${tx} came within ${timeout} ms: it changed no row of this collection, or is late`;
      const timer = setTimeout(end(() => reject(new RowcastError("no_transaction", text, false))), timeout);
      const done = end(resolve);
      waiting.add(done);
    });
  }
}

/** What a page before this one has kept, where the collection is persisted: rows, and the cursor they were shown at. */
class Kept<Row extends object> {
  /** the name under which TanStack DB keeps the cursor */
  static readonly #NAME = "rowcast";
  readonly #run: Parameters<SyncConfig<Row, Key>["sync"]>[0];
  /** which rows they are: of others the cursor says nothing */
  readonly #which: string;
  #isLost = false;
  readonly #scan: () => Promise<readonly { key: Key; value: object }[]>;

  private constructor(run: Parameters<SyncConfig<Row, Key>["sync"]>[0], which: string, scan: () => Promise<readonly { key: Key; value: object }[]>) {
    this.#run = run;
    this.#which = which;
    this.#scan = scan;
  }

  /** `undefined` where nothing is kept. */
  static of<Row extends object>(run: Parameters<SyncConfig<Row, Key>["sync"]>[0], which: string): Kept<Row> | undefined {
    const { row, persistence } = (run.metadata ?? {}) as any;
    const scan = persistence?.scanPersistedRows ?? row?.scanPersisted;
    return scan && new Kept<Row>(run, which, () => scan());
  }

  async load(): Promise<{ rows: Map<Key, Row>; cursor: string | undefined }> {
    const rows = new Map((await this.#scan()).map(({ key, value }) => [key, value as Row]));
    const place: any = this.#run.metadata!.collection.get(Kept.#NAME);
    return { rows, cursor: place?.which === this.#which ? place.cursor : undefined };
  }

  /** No cursor counts any more; to be called in a transaction. */
  lose(): void {
    this.#isLost = true;
    this.keep(undefined);
  }

  /** To be called in a transaction whose rows were shown there. */
  keep(cursor: string | undefined): void {
    const { collection } = this.#run.metadata!;
    if (cursor && !this.#isLost) collection.set(Kept.#NAME, { which: this.#which, cursor });
    else collection.delete(Kept.#NAME);
  }
}

/** Rows for which a list of filters holds, and how many ask for them. */
interface Subset<Row> {
  readonly name: string;
  readonly collection: Collection<Row>;
  /** the rows are there, and written; they may be read once what was written last can be */
  readonly ready: Promise<void>;
  users: number;
}

/** What is written into a collection: the rows of several parts, of which one row may be in many. */
class Rows<Row extends object> {
  readonly #run: Parameters<SyncConfig<Row, Key>["sync"]>[0];
  readonly #open: (filters: readonly string[], initial?: Initial<Row>) => Collection<Row>;
  readonly #transactions: Transactions;
  readonly #kept: Kept<Row> | undefined;
  /** what has all rows, whose cursor is kept */
  #whole: Collection<Row> | undefined;
  readonly #subsets = new Map<string, Subset<Row>>();
  /** the rows as they were written */
  readonly #written = new Map<Key, Row>();
  /** keys that a subset has said something of since */
  readonly #changed = new Set<Key>();
  /** keys of rows that were kept, and of which the server has said nothing */
  #unsaid = new Set<Key>();
  #came: string[] = [];
  #isDue = false;
  isClosed = false;
  #receipt: SyncAppliedReceipt = true;

  constructor(
    run: Parameters<SyncConfig<Row, Key>["sync"]>[0],
    open: (filters: readonly string[], initial?: Initial<Row>) => Collection<Row>,
    transactions: Transactions,
    kept: Kept<Row> | undefined,
  ) {
    this.#run = run;
    this.#open = open;
    this.#transactions = transactions;
    this.#kept = kept;
  }

  /**
   * Takes over what was kept; where all rows are synced, TanStack DB has shown it by then. What has changed since follows from
   * the cursor, if there is one; else rows of which the server says nothing go as soon as it has said something.
   */
  async start(areShown: boolean): Promise<Initial<Row> | undefined> {
    if (!this.#kept) return undefined;
    const { rows, cursor } = await this.#kept.load();
    if (areShown) for (const [key, row] of rows) this.#written.set(key, row);
    this.#unsaid = new Set(rows.keys());
    // an adapter that cannot tell its rows tells none
    return cursor && rows.size ? { rows: [...rows.values()], cursor } : undefined;
  }

  /** Follows the rows of a list of filters; those of equal lists are followed once. */
  open(filters: readonly string[], initial?: Initial<Row>): Subset<Row> {
    const name = JSON.stringify(filters);
    const known = this.#subsets.get(name);
    if (known) {
      known.users++;
      return known;
    }
    const collection = this.#open(filters, initial);
    collection.onTransactions = (transactions) => {
      this.#came.push(...transactions);
      this.#due();
    };
    collection.on("change", ({ set, removed }) => {
      for (const keys of [set.keys(), removed.keys()]) for (const key of keys) this.#changed.add(key);
      this.#due();
    });
    let isReady = false;
    collection.on("error", (error) => error.final && isReady && !this.isClosed && this.#run.markError(error));
    const ready = collection.ready.then(() => {
      isReady = true;
      for (const key of this.#unsaid) this.#changed.add(key);
      this.#write();
    });
    ready.catch(() => {}); // the caller is told
    const subset: Subset<Row> = { name, collection, ready, users: 1 };
    this.#subsets.set(name, subset);
    return subset;
  }

  /** The same of all rows: with them the cursor is kept at which they are shown. */
  openWhole(filters: readonly string[], initial: Initial<Row> | undefined): Subset<Row> {
    const subset = this.open(filters, initial);
    this.#whole = subset.collection;
    return subset;
  }

  /** One that asked for a subset does no longer. */
  release(subset: Subset<Row>): void {
    if (--subset.users > 0 || this.isClosed) return;
    if (this.#subsets.get(subset.name) === subset) this.#subsets.delete(subset.name);
    subset.collection.close();
    for (const key of subset.collection.keys()) this.#changed.add(key);
    this.#due();
  }

  /** Settles when what was written can be read. */
  async settled(): Promise<void> {
    await this.#write();
  }

  close(): void {
    this.isClosed = true;
    for (const { collection } of this.#subsets.values()) collection.close();
    this.#subsets.clear();
  }

  /** All parts tell of a cut in the same turn: what they tell is one transaction. */
  #due(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => this.#write());
  }

  #write(): SyncAppliedReceipt {
    this.#isDue = false;
    if (this.isClosed) return true;
    if (this.#changed.size > 0) this.#receipt = this.#commit();
    this.#transactions.came(this.#came.splice(0));
    return this.#receipt;
  }

  #commit(): SyncAppliedReceipt {
    const { begin, write, commit } = this.#run;
    begin();
    this.#kept?.keep(this.#whole?.shownAt);
    for (const key of this.#changed) {
      const before = this.#written.get(key);
      const row = this.#rowOf(key);
      const isKept = this.#unsaid.delete(key);
      if (row === before && !(isKept && row === undefined)) continue;
      if (row === undefined) {
        this.#written.delete(key);
        write({ type: "delete", key });
      } else {
        this.#written.set(key, row);
        write({ type: before === undefined ? "insert" : "update", value: row });
      }
    }
    this.#changed.clear();
    const receipt = commit();
    // abandoned with the collection, or not kept: then the cursor is behind what was kept, and counts for nothing
    if (receipt !== true) receipt.catch(() => this.#keepNothing());
    return receipt;
  }

  #keepNothing(): void {
    if (!this.#kept || this.isClosed) return;
    this.#run.begin();
    this.#kept.lose();
    const receipt = this.#run.commit();
    if (receipt !== true) receipt.catch(() => {});
  }

  #rowOf(key: Key): Row | undefined {
    for (const { collection } of this.#subsets.values()) {
      const row = collection.get(key);
      if (row !== undefined) return row;
    }
    return undefined;
  }
}
