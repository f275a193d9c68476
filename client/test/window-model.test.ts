/** The state of a window against a table, a stream and a server that answers late: at each cut it is what sorting gives. */
import { expect, test } from "vitest";
import type { OrderColumn } from "../src/ordered.js";
import { WindowRows, type Page } from "../src/window.js";

interface Row {
  id: number;
  rank: number | null;
  text: string;
  /** the filter lets through what is in */
  isIn: boolean;
}

const ORDER: OrderColumn[] = [
  { column: "rank", type: "integer", desc: true, nulls: "first" },
  { column: "id", type: "integer", desc: true, nulls: "first" },
];

/** As it stands, without a word of the client. */
function sort(rows: Iterable<Row>): Row[] {
  return [...rows].filter(({ isIn }) => isIn).sort((one, other) => {
    if (one.rank === other.rank) return other.id - one.id;
    if (one.rank === null) return -1;
    return other.rank === null ? 1 : other.rank - one.rank;
  });
}

/** Numbers that look random, the same for the same seed. */
function dice(seed: number): (sides: number) => number {
  let state = seed * 2_654_435_761 + 1;
  return (sides) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    mixed ^= mixed >>> 15;
    return (mixed >>> 0) % sides;
  };
}

type Told = { kind: "change"; change: any } | { kind: "page"; page: any } | { kind: "cut"; rows: Row[] };

/** A table, and what a socket is sent of it. */
class Server {
  readonly rows = new Map<number, Row>();
  /** what was written to the socket, or is about to be */
  sent: Told[] = [];
  /** commands that were not obeyed yet */
  asked: Page[] = [];
  #next = 1_000;
  #tx = 0;

  constructor(readonly roll: (sides: number) => number) {
    for (let id = 20 + roll(120); id > 0; id--) this.rows.set(id, this.#make(id));
  }

  /** The first page of a subscription, and nothing of what was sent before. */
  begin(limit: number): void {
    this.sent = [];
    this.asked = [];
    this.#send({ limit, n: 0, after: undefined });
    this.sent.push({ kind: "cut", rows: sort(this.rows.values()) });
  }

  /** The socket was lost, and changes go on where they were. What was asked for is asked for again. */
  resume(outstanding: Page | undefined): void {
    this.sent = this.sent.filter(({ kind }) => kind !== "page");
    this.asked = outstanding ? [outstanding] : [];
  }

  /** Reads a page that was asked for. Its parts come behind all that was sent, with changes between them. */
  answer(): void {
    const page = this.asked.shift();
    if (!page) return;
    const changes = () => this.roll(3) || this.commit();
    this.#send(page, changes);
    this.sent.push({ kind: "cut", rows: sort(this.rows.values()) });
  }

  #send({ n, limit, after }: Omit<Page, "after"> & { after: any }, between = () => {}): void {
    const all = sort(this.rows.values());
    const from = after ? all.findIndex((row) => isBehind(row, after)) : 0;
    const [rows, behind] = from < 0 ? [[], 0] : [all.slice(from, from + limit), all.length - from - limit];
    const count = n ? undefined : all.length;
    const ref = n ? ["items", n] : undefined;
    const split = this.roll(rows.length + 1);
    const first = { ref, rows: rows.slice(0, split), last: false };
    const last = { ref, rows: rows.slice(split), last: true, more: behind > 0, order: ORDER, count, exact: true };
    for (const page of [first, last]) {
      // a client makes objects of its own
      this.sent.push({ kind: "page", page: structuredClone({ type: "rows", channel: "items", ...page }) });
      between();
    }
  }

  /** A transaction, or two that are told at once. */
  commit(): void {
    for (let count = 1 + Number(this.roll(4) === 0); count > 0; count--) {
      this.#tx++;
      for (let steps = 1 + this.roll(3); steps > 0; steps--) this.#step();
    }
    this.sent.push({ kind: "cut", rows: sort(this.rows.values()) });
  }

  #step(): void {
    const ids = [...this.rows.keys()];
    const id = ids[this.roll(ids.length)];
    const row = id === undefined ? undefined : this.rows.get(id);
    const kind = this.roll(100);
    if (!row || kind < 26) return this.#insert(this.#next++);
    if (kind < 52) return this.#delete(row.id);
    if (kind < 70) return this.#update(row.id, { ...row, rank: this.#rank() });
    if (kind < 80) return this.#update(row.id, { ...row, text: `text ${this.roll(1_000)}` });
    if (kind < 86) return this.#update(row.id, { ...row, isIn: !row.isIn });
    if (kind < 89) return this.#update(row.id, { ...row, id: this.#next++, rank: this.roll(2) ? row.rank : this.#rank() });
    if (kind < 91) return this.#replace(row);
    if (kind < 95) return this.#shift();
    if (kind < 96) return this.#truncate();
    if (kind < 97) return this.#omit(row);
    const rank = this.roll(2) ? 19 : undefined;
    for (let count = this.roll(40); count > 0; count--) this.#insert(this.#next++, rank);
  }

  #make(id: number, rank = this.#rank()): Row {
    return { id, rank, text: `text ${id}`, isIn: this.roll(5) > 0 };
  }

  #rank(): number | null {
    return this.roll(8) === 0 ? null : this.roll(20);
  }

  #insert(id: number, rank?: number): void {
    const row = this.#make(id, rank);
    this.rows.set(id, row);
    if (row.isIn) this.#tell("created", row);
  }

  #delete(id: number): void {
    const row = this.rows.get(id)!;
    this.rows.delete(id);
    if (row.isIn) this.#tell("deleted", row);
  }

  #update(id: number, row: Row): void {
    const before = this.rows.get(id)!;
    this.rows.delete(id);
    this.rows.set(row.id, row);
    this.#tellUpdate(before, row);
  }

  /** Makes the row of a key anew; in one order or the other, as with a deferrable key. */
  #replace(row: Row): void {
    const next = this.#make(row.id);
    this.rows.set(row.id, next);
    const told = [() => row.isIn && this.#tell("deleted", row), () => next.isIn && this.#tell("created", next)];
    for (const tell of this.roll(2) ? told : told.reverse()) tell();
  }

  /** Gives each of a few rows the key of the next one, with a deferrable key: they pass through each other. */
  #shift(): void {
    const ids = [...this.rows.keys()].sort((one, other) => one - other);
    const from = this.roll(ids.length);
    const some = ids.slice(from, from + 2 + this.roll(4));
    const to = [...some.slice(1), this.#next++];
    const before = some.map((id) => this.rows.get(id)!);
    const changes = this.roll(3) === 0;
    const after = before.map((row, i) => ({ ...row, id: to[i]!, rank: changes ? this.#rank() : row.rank }));
    for (const id of some) this.rows.delete(id);
    for (const row of after) this.rows.set(row.id, row);
    const pairs = before.map((row, i) => [row, after[i]!] as const);
    for (const [one, other] of this.roll(2) ? pairs : pairs.reverse()) this.#tellUpdate(one, other);
  }

  #truncate(): void {
    this.rows.clear();
    this.#tell("truncated", null);
    for (let count = this.roll(40); count > 0; count--) this.#insert(this.#next++);
  }

  /** A row that is too long: its key alone is told. */
  #omit(row: Row): void {
    if (!row.isIn) return;
    const next = { ...row, rank: this.#rank(), text: "long" };
    this.rows.set(row.id, next);
    this.#tell("updated", { id: row.id }, { omitted: "row_bytes", changed: [] });
  }

  #tellUpdate(before: Row, after: Row): void {
    const isMoved = before.id !== after.id;
    if (before.isIn && after.isIn) this.#tell("updated", after, isMoved ? { old: { id: before.id } } : {});
    else if (before.isIn) this.#tell("left", before);
    else if (after.isIn) this.#tell("entered", after);
  }

  #tell(action: string, data: object | null, more: object = {}): void {
    this.sent.push({ kind: "change", change: structuredClone({ action, data, tx: String(this.#tx), ...more }) });
  }
}

function isBehind(row: Row, { rank, id }: Row): boolean {
  if (row.rank === rank) return row.id < id;
  return rank === null || (row.rank !== null && row.rank < rank);
}

/** A window that follows the server's table. */
class Reader {
  readonly state: WindowRows<Row>;
  outstanding: Page | undefined;
  reloads = 0;
  pages = 0;
  /** as it was at the last cut */
  #table: Row[] = [];

  constructor(
    readonly server: Server,
    public limit: number,
  ) {
    this.state = new WindowRows<Row>((row) => row.id, limit);
    this.reload();
  }

  reload(): void {
    this.state.begin();
    this.outstanding = undefined;
    this.server.begin(this.state.first);
  }

  resume(): void {
    // without a place it begins anew
    if (this.server.sent.some((told) => told.kind === "page" && !told.page.ref)) return this.reload();
    this.state.begin();
    this.server.resume(this.outstanding);
  }

  grow(count: number): void {
    this.limit += count;
    this.state.grow(count);
    // in the middle of a cut it shows more of the last one
    const { rows } = this.state.shown;
    expect(rows).toEqual(this.#table.slice(0, rows.length));
    this.ask();
  }

  ask(): void {
    const page = this.state.wish();
    if (!page) return;
    this.outstanding = page;
    this.server.asked.push(page);
    this.pages++;
  }

  /** The next message. */
  take(): void {
    const told = this.server.sent.shift();
    const { isLost } = this.state;
    if (told?.kind === "change") this.state.change(told.change);
    if (told?.kind === "page") {
      if (told.page.last && told.page.ref?.[1] === this.outstanding?.n) this.outstanding = undefined;
      this.state.page(told.page);
    }
    if (this.state.isLost && !isLost) {
      this.reloads++;
      this.reload();
    } else if (told?.kind === "cut") {
      this.#cut(told.rows);
    }
  }

  #cut(table: Row[]): void {
    const { rows: before } = this.state.shown;
    this.#table = table;
    this.state.cut();
    const { rows, hasMore, isLoading, count } = this.state.shown;
    const wanted = table.slice(0, this.limit);
    expect(rows.map(String)).toHaveLength(isLoading ? rows.length : wanted.length);
    expect(rows).toEqual(wanted.slice(0, rows.length));
    if (!hasMore) expect(table).toHaveLength(rows.length);
    if (isLoading) expect(hasMore).toBe(true);
    expect(count).toBe(table.length);
    if (rows.length === before.length && rows.every((row, i) => row === before[i])) expect(rows).toBe(before);
    this.ask();
  }
}

const seeds = Number(process.env.ROWCAST_SEEDS ?? 60);

test.each([1, 3, 12, 25])("a window of %i rows is what sorting the table gives, at every cut", (limit) => {
  let [pages, reloads] = [0, 0];
  for (let seed = 1; seed <= seeds; seed++) {
    const roll = dice(seed * 31 + limit);
    const server = new Server(roll);
    const reader = new Reader(server, limit);
    try {
      for (let step = 0; step < 300; step++) {
        const kind = roll(100);
        if (kind < 30) server.commit();
        else if (kind < 84) for (let count = roll(6); count > 0; count--) reader.take();
        else if (kind < 94) server.answer();
        else if (kind < 96) reader.grow(1 + roll(5));
        else if (kind < 98) reader.resume();
        else if (roll(4) === 0) reader.reload();
      }
      while (server.sent.length || server.asked.length) {
        while (server.sent.length) reader.take();
        server.answer();
      }
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    const { shown } = reader.state;
    expect([seed, shown.rows, shown.isLoading]).toEqual([seed, sort(server.rows.values()).slice(0, reader.limit), false]);
    pages += reader.pages;
    reloads += reader.reloads;
  }
  // the test has met what it is about
  expect(pages).toBeGreaterThan(seeds / 4);
  expect(reloads).toBeGreaterThan(seeds / 4);
});
