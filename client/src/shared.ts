/**
 * What the subscribers of equal stores share. Owns how long it is open: from the first subscriber until some time after
 * the last one. Does not know what it shows.
 */
import { attempt } from "./attempt.js";
import type { Client } from "./index.js";

/** A store of Svelte's contract, with what React's `useSyncExternalStore` wants. */
export interface Store<View> {
  /** What a subscriber would be shown now. */
  get(): View;
  /** What a server renders, and the first render in a browser: nothing yet, whatever others have open by then. */
  getInitial(): View;
  /** Calls `run` now and whenever the view has changed. Returns what ends that. */
  subscribe(run: (view: View) => void): () => void;
}

/** What is open, and shown. */
export interface Source<View> {
  get(): View;
  close(): void;
}

/** Opens what is shown. It calls `changed` when the view is another one; with true where it is the last one. */
export type Open<View> = (changed: (isLast?: boolean) => void) => Source<View>;

/** How long a store is open. */
export interface Lifetime {
  /** false: nothing is asked for, and the view is the empty one */
  enabled?: boolean;
  /** milliseconds for which it stays open after its last subscriber has left: 5,000 unless told */
  keepAlive?: number;
}

export const KEEP_ALIVE = 5_000;

const shared = new WeakMap<Client<any>, Map<string, Shared<any>>>();

/**
 * A store of what `open` opens. Stores of one name share it; without a name a store has its own. A store that nobody
 * subscribes to, as on a server that renders, leaves nothing behind.
 */
export function makeStore<View>(
  client: Client<any>,
  name: string | undefined,
  empty: View,
  keepAlive: number,
  open: Open<View>,
): Store<View> {
  const known: Map<string, Shared<View>> = name === undefined ? new Map() : sharedBy(client);
  const key = name ?? "";
  return {
    get: () => known.get(key)?.source.get() ?? empty,
    getInitial: () => empty,
    subscribe(run) {
      // frameworks subscribe where pages are rendered, too, and a path is no page's there
      if (/^\/(?!\/)/.test(client.url) && !globalThis.location) {
        run(empty);
        return () => {};
      }
      if (!known.has(key)) known.set(key, new Shared(client, keepAlive, open, () => known.delete(key)));
      return known.get(key)!.add(run);
    },
  };
}

/** A store that shows nothing, and opens nothing. */
export function emptyStore<View>(empty: View): Store<View> {
  const get = () => empty;
  return {
    get,
    getInitial: get,
    subscribe(run) {
      run(empty);
      return () => {};
    },
  };
}

/** A page that knows its user later asks for nothing until then. */
export function isNobody(user: string | number | null | undefined): user is null | undefined | "" {
  return user === null || user === undefined || user === "";
}

/** A timer that keeps no Node process alive. Elsewhere a timer is a number. */
export function unref<Timer>(timer: Timer): Timer {
  (timer as { unref?(): void }).unref?.();
  return timer;
}

function sharedBy(client: Client<any>): Map<string, Shared<any>> {
  if (!shared.has(client)) shared.set(client, new Map());
  return shared.get(client)!;
}

class Shared<View> {
  readonly source: Source<View>;
  readonly #subscribers = new Set<(view: View) => void>();
  readonly #keepAlive: number;
  readonly #forget: () => void;
  readonly #ignoreState: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  constructor(client: Client<any>, keepAlive: number, open: Open<View>, forget: () => void) {
    this.#keepAlive = keepAlive;
    this.#forget = forget;
    this.source = open((isLast) => this.#changed(isLast));
    // while something is open only a client that was closed is idle
    this.#ignoreState = client.on("state", (state) => state === "idle" && this.#ended());
  }

  add(run: (view: View) => void): () => void {
    clearTimeout(this.#timer);
    // one function may subscribe twice
    const subscriber = (view: View) => run(view);
    this.#subscribers.add(subscriber);
    attempt(() => run(this.source.get()));
    return () => {
      if (this.#subscribers.delete(subscriber) && this.#subscribers.size === 0) this.#left();
    };
  }

  #changed(isLast = false): void {
    for (const run of this.#subscribers) attempt(() => run(this.source.get()));
    if (isLast) this.#ended();
  }

  /** The next subscriber finds something new, and not what is followed no longer. */
  #ended(): void {
    this.#isOver = true;
    if (this.#subscribers.size === 0) this.#close();
  }

  #left(): void {
    if (this.#isOver || this.#keepAlive <= 0) return this.#close();
    this.#timer = unref(setTimeout(() => this.#close(), this.#keepAlive));
  }

  #close(): void {
    clearTimeout(this.#timer);
    this.#ignoreState();
    this.#forget();
    this.source.close();
  }
}
