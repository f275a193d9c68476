/** The rows of a window: what came goes in, what is shown and which page is wanted comes out. Knows no subscription. */
import { toJson } from "./json.js";
import type { Change, Key, Rows } from "./messages.js";
import { compare, placeOf, type OrderColumn, type Place } from "./ordered.js";

/** The most rows of a page. */
export const PAGE = 1_000;

/** What a window shows. */
export interface Shown<Row> {
  /** the first rows in the order, at most as many as asked for; the same array until one of them changes */
  readonly rows: readonly Row[];
  /** rows lie behind those. Where all but these were deleted meanwhile, `loadMore` finds out */
  readonly hasMore: boolean;
  /** fewer than asked for are shown, and the next ones are on their way */
  readonly isLoading: boolean;
  /** how many rows there are, where `count` asked for it */
  readonly count?: number | undefined;
  /** `count` is no estimate */
  readonly isExact?: boolean | undefined;
}

/** A page that is wanted: the rows behind a place. */
export interface Page {
  readonly n: number;
  readonly limit: number;
  readonly after: Readonly<Record<string, unknown>>;
}

interface Entry<Row> {
  readonly key: Key;
  readonly row: Row;
  readonly place: Place;
}

/**
 * Holds every row from the first one to a known end, and none behind it: a row that comes there may not be the next one. A
 * surplus lies between the last row that is shown and the end, so that a row that goes is followed by another one at once.
 */
export class WindowRows<Row> {
  /** the first page has come, at some time */
  isRead = false;
  /** it cannot be told any more which rows there are: they have to be read again */
  isLost = false;
  order: readonly OrderColumn[] = [];
  shown: Shown<Row> = { rows: [], hasMore: false, isLoading: true };

  #limit: number;
  /** in their order */
  readonly #held: Entry<Row>[] = [];
  readonly #byKey = new Map<Key, Entry<Row>>();
  /** the last place up to which all rows are held; none where nothing was read yet, or nothing lies behind */
  #end: Entry<Row> | undefined;
  #isComplete = false;
  #count: number | undefined;
  #isExact = false;

  /** the page on its way, and the end that it goes on from */
  #asked: { page: Page; end: Entry<Row> } | undefined;
  #pages = 0;
  /** what changes have made of rows since that was asked for; without an entry the row is gone */
  readonly #touched = new Map<Key, Entry<Row> | undefined>();
  /** rows of pages whose last part has not come: 0 is the first page of a subscription */
  readonly #parts = new Map<number, Row[]>();

  /** Transaction and key → rows that have that key beside the newest one, as in a collection. */
  readonly #hidden = new Map<string, number>();
  /** transaction and key of rows that came where another one, which is not held, may have had the key */
  readonly #doubtful = new Set<string>();

  /** what is held since the last cut: `grow` shows no half of the next one */
  #cutRows: readonly Entry<Row>[] = [];
  #isCutComplete = false;
  #isChanged = false;

  constructor(
    readonly keyOf: (row: Row) => Key,
    limit: number,
  ) {
    this.#limit = limit;
  }

  /** how many rows are held behind those that are shown; up to twice as many before some are let go */
  get #surplus(): number {
    return Math.min(100, Math.max(10, this.#limit >> 1));
  }

  /** A subscription begins, or goes on. */
  begin(): void {
    this.#parts.clear();
  }

  /** How many rows are asked for, where they have to be read. */
  get first(): number {
    return Math.min(PAGE, this.#limit + this.#surplus);
  }

  /** More rows are to be shown, of those that the last cut has left. Returns whether something else is shown now. */
  grow(count: number): boolean {
    this.#limit += count;
    return this.#show();
  }

  /** A change came. */
  change({ action, data, tx, omitted, ...more }: Change<Row>): void {
    if (this.isLost) return;
    this.#isChanged = true;
    switch (action) {
      case "created":
      case "entered":
        this.#add(1);
        this.#enter(data, tx);
        break;
      case "updated": {
        const { old } = more as { old?: Partial<Row> };
        if (old) this.#leave({ ...data, ...old }, tx, true);
        if (old) this.#enter(data, tx);
        else this.#set(this.keyOf(data), data);
        break;
      }
      case "deleted":
      case "left":
        this.#add(-1);
        this.#leave(data, tx, omitted !== undefined);
        break;
      case "truncated":
        this.#clear();
        this.#isComplete = true;
        if (this.#count !== undefined) this.#count = 0;
        this.#isExact = true;
    }
  }

  /** A part of a page came: of the first one, or of the one that was asked for. */
  page({ ref, rows, last, ...end }: Rows): void {
    const n = ref?.[1] ?? 0;
    if (n !== 0 && n !== this.#asked?.page.n) return;
    const all = this.#parts.get(n) ?? [];
    this.#parts.set(n, all);
    for (const row of rows) all.push(row as Row);
    if (!last) return;
    this.#parts.delete(n);
    this.#isChanged = true;
    if (n === 0) this.#replace(all, end);
    else this.#append(all, end.more === true);
  }

  /** The page that is to be asked for now, if any. It counts as asked for from then on. */
  wish(): Page | undefined {
    const isShort = this.#held.length < this.#limit + (this.#surplus >> 1);
    if (this.#asked || this.isLost || !isShort || !this.#end) return undefined;
    const end = this.#end;
    const limit = Math.min(PAGE, this.#limit + this.#surplus - this.#held.length);
    const after = Object.fromEntries(this.order.map(({ column }) => [column, (end.row as any)[column]]));
    const page = { n: ++this.#pages, limit, after };
    this.#asked = { page, end };
    return page;
  }

  /** All that came is the database at one moment. Returns whether something else is shown now. */
  cut(): boolean {
    // no transaction is half there
    this.#hidden.clear();
    this.#doubtful.clear();
    if (!this.#isChanged) return false;
    this.#isChanged = false;
    this.#cutRows = [...this.#held];
    this.#isCutComplete = this.#isComplete;
    return this.#show();
  }

  /** Returns whether it is something else. */
  #show(): boolean {
    const [held, limit] = [this.#cutRows, this.#limit];
    const before = this.shown;
    const rows = held.slice(0, limit).map(({ row }) => row);
    const isSame = rows.length === before.rows.length && rows.every((row, i) => row === before.rows[i]);
    const shown: Shown<Row> = {
      rows: isSame ? before.rows : rows,
      hasMore: held.length > limit || !this.#isCutComplete,
      isLoading: held.length < limit && !this.#isCutComplete,
      ...(this.#count === undefined ? {} : { count: this.#count, isExact: this.#isExact }),
    };
    const names = Object.keys({ ...before, ...shown }) as (keyof Shown<Row>)[];
    if (names.every((name) => before[name] === shown[name])) return false;
    this.shown = shown;
    return true;
  }

  #add(count: number): void {
    if (this.#count !== undefined) this.#count = Math.max(0, this.#count + count);
  }

  #enter(row: Row, tx: string): void {
    const key = this.keyOf(row);
    const name = `${tx} ${key}`;
    if (this.#newest(key)) this.#hidden.set(name, (this.#hidden.get(name) ?? 0) + 1);
    const isUnknown = !this.#isComplete && !this.#newest(key) && !this.#touched.has(key);
    this.#set(key, row);
    if (isUnknown && this.#newest(key)) this.#doubtful.add(name);
  }

  /** A row leaves its key. With `isPart` it is not known whole. */
  #leave(row: Row, tx: string, isPart: boolean): void {
    const key = this.keyOf(row);
    const name = `${tx} ${key}`;
    const count = this.#hidden.get(name);
    const newest = this.#newest(key);
    if (count) {
      if (count > 1) this.#hidden.set(name, count - 1);
      else this.#hidden.delete(name);
    } else if (this.#doubtful.delete(name) && newest && toJson(newest.row) !== toJson(row)) {
      // another row, from behind the end, that gave its key to this one; or this one, which changed as it left
      if (isPart) this.isLost = true;
    } else {
      this.#set(key, undefined);
    }
  }

  #newest(key: Key): Entry<Row> | undefined {
    return this.#byKey.get(key) ?? this.#touched.get(key);
  }

  #set(key: Key, row: Row | undefined): void {
    const place = row && placeOf(this.order, row);
    // a row that is too long has come without the columns of the order
    if (row && !place) this.isLost = true;
    const entry = row && place && { key, row, place };
    if (this.#asked) this.#touched.set(key, entry);
    this.#put(key, entry);
  }

  #put(key: Key, entry: Entry<Row> | undefined): void {
    const before = this.#byKey.get(key);
    if (before) {
      this.#byKey.delete(key);
      this.#held.splice(this.#indexOf(before), 1);
    }
    if (!entry || !this.#isWithin(entry.place)) return;
    this.#byKey.set(key, entry);
    this.#held.splice(this.#firstAt(entry.place), 0, entry);
    const most = this.#limit + this.#surplus;
    if (this.#held.length <= most + this.#surplus) return;
    for (const { key } of this.#held.splice(most)) this.#byKey.delete(key);
    this.#endAt(this.#held.at(-1));
  }

  #isWithin(place: Place): boolean {
    return this.#isComplete || (this.#end !== undefined && compare(this.order, place, this.#end.place) <= 0);
  }

  /** The first index whose row does not come before a place. */
  #firstAt(place: Place): number {
    let [low, high] = [0, this.#held.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.order, this.#held[middle]!.place, place) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #indexOf(entry: Entry<Row>): number {
    // numbers that were rounded may be equal
    return this.#held.indexOf(entry, this.#firstAt(entry.place));
  }

  #endAt(end: Entry<Row> | undefined): void {
    this.#end = end;
    this.#isComplete = end === undefined;
  }

  #clear(): void {
    this.#held.length = 0;
    for (const map of [this.#byKey, this.#touched, this.#hidden, this.#doubtful]) map.clear();
    this.#end = this.#asked = undefined;
  }

  #entryOf(row: Row): Entry<Row> {
    return { key: this.keyOf(row), row, place: placeOf(this.order, row) ?? [] };
  }

  /** The first page: nothing else is held. */
  #replace(rows: Row[], { more, order = [], count, exact }: Partial<Rows>): void {
    const known = new Map(this.#byKey);
    this.#clear();
    this.order = order;
    this.#count = count;
    this.#isExact = exact === true;
    this.isLost = false;
    this.isRead = true;
    for (const row of rows) {
      const entry = this.#entryOf(row);
      const before = known.get(entry.key)?.row;
      this.#held.push(toJson(before) === toJson(row) ? { ...entry, row: before! } : entry);
    }
    // where numbers were rounded, the server's order is another one
    this.#held.sort((one, other) => compare(order, one.place, other.place));
    for (const entry of this.#held) this.#byKey.set(entry.key, entry);
    this.#endAt(more ? this.#held.at(-1) : undefined);
  }

  /** The page behind the end. Rows that a change has touched since it was asked for are as that made them. */
  #append(rows: Row[], isMore: boolean): void {
    const { end } = this.#asked!;
    const touched = new Map(this.#touched);
    this.#touched.clear();
    this.#asked = undefined;
    // rows have fallen off since: it is not the next page any more
    if (end !== this.#end) return;
    const entries = rows.map((row) => this.#entryOf(row));
    this.#endAt(isMore ? entries.at(-1) : undefined);
    for (const entry of entries) if (!touched.has(entry.key)) this.#put(entry.key, entry);
    for (const [key, entry] of touched) if (entry && this.#byKey.get(key) !== entry) this.#put(key, entry);
  }
}
