/** Rows, windows, inboxes, notifications and a client's state as stores of Svelte's contract. Bindings of other frameworks are made of them. */
import { attempt } from "./attempt.js";
import type {
  Client,
  Collection,
  CollectionOptions,
  Filter,
  Notification,
  Part,
  RowcastError,
  State,
  WindowOptions,
} from "./index.js";
import { emptyStore, isNobody, KEEP_ALIVE, makeStore, unref, type Lifetime, type Store } from "./shared.js";
import { followWindow, NO_WINDOW, type WindowView } from "./window-view.js";

export { inboxStore, type InboxStoreOptions, type InboxView } from "./inbox.js";
export type { Lifetime, Store, WindowView };

/** A collection at one moment. */
export interface View<Row> {
  /** the same array until a row changes */
  readonly rows: readonly Row[];
  /** the rows are those of the table */
  readonly isReady: boolean;
  /** why the rows are followed no longer */
  readonly error?: RowcastError;
}

/** A store of rows. */
export type CollectionStore<Row> = Store<View<Row>>;

/** What a store asks for: its subscribers open and close it. A `filter` that is falsy is none. */
export interface StoreOptions<Row, Column extends string = never>
  extends Pick<CollectionOptions<Row, Column>, "key" | "columns">,
    Lifetime {
  filter?: Filter<Row> | readonly Filter<Row>[] | "" | 0 | false | null | undefined;
}

/** Which rows a store asks for. */
export interface CollectionStoreOptions<Row, Column extends string = never>
  extends StoreOptions<Row, Column>,
    Pick<CollectionOptions<Row, Column>, "initial" | "changed" | "latest" | "every"> {}

const EMPTY: View<never> = { rows: [], isReady: false };

/** A store of a channel's rows. Stores of the same client, channel and options share one collection. */
export function collectionStore<
  Channels extends object,
  Name extends keyof Channels & string,
  Column extends keyof Channels[Name] & string = never,
>(
  client: Client<Channels>,
  channel: Name,
  options: CollectionStoreOptions<Channels[Name], Column>,
): CollectionStore<Part<Channels[Name], Column>> {
  type Row = Part<Channels[Name], Column>;
  const { key, filter, columns, initial, changed, latest, every, enabled = true, keepAlive = KEEP_ALIVE } = options;
  if (!enabled) return emptyStore<View<Row>>(EMPTY);
  // as the page was rendered, and its first render in a browser
  const first: View<Row> = initial ? { rows: initial.rows, isReady: false } : EMPTY;
  // two functions cannot be told to be alike
  const telling = { changed, latest, every };
  const wishes = [channel, key, filter || 0, columns, keepAlive, telling];
  const name = typeof key === "function" ? undefined : JSON.stringify(wishes);
  return makeStore<View<Row>>(client, name, first, keepAlive, (tell) => {
    const collection = client.collection<Name, Column>(channel, { key, columns, initial, filter: filter || undefined, ...telling });
    return follow(collection, tell);
  });
}

function follow<Row>(collection: Collection<Row>, changed: (isLast?: boolean) => void) {
  let view: View<Row> = EMPTY;
  let version = 0;

  /** Also before its own listeners are told: a listener of another collection reads the same moment here. */
  function get(): View<Row> {
    if (version !== collection.version) {
      version = collection.version;
      view = { ...view, rows: [...collection.values()] };
    }
    return view;
  }

  function update(part: Partial<View<Row>>): void {
    view = { ...get(), ...part };
    changed(view.error !== undefined);
  }

  collection.on("change", () => update({}));
  collection.on("error", (error) => error.final && update({ error }));
  collection.ready.then(
    () => update({ isReady: true }),
    () => {}, // the event has told, or it was closed
  );
  return { get, close: () => collection.close() };
}

/** Which window a store asks for. A `filter` that is falsy is none. */
export interface WindowStoreOptions<Row, Column extends string = never>
  extends StoreOptions<Row, Column>,
    Pick<WindowOptions<Row, Column>, "order" | "limit" | "count"> {}

/** A store of a channel's first rows in an order. Stores of the same client, channel and options share one window. */
export function windowStore<
  Channels extends object,
  Name extends keyof Channels & string,
  Column extends keyof Channels[Name] & string = never,
>(
  client: Client<Channels>,
  channel: Name,
  options: WindowStoreOptions<Channels[Name], Column>,
): Store<WindowView<Part<Channels[Name], Column>>> {
  type View = WindowView<Part<Channels[Name], Column>>;
  const { key, filter, columns, order, limit, count, enabled = true, keepAlive = KEEP_ALIVE } = options;
  if (!enabled) return emptyStore<View>(NO_WINDOW);
  const wishes = [channel, key, filter || 0, columns, keepAlive, order, limit, count];
  // with an order or not, its name is not that of a collection's store
  const name = typeof key === "function" ? undefined : JSON.stringify({ window: wishes });
  return makeStore<View>(client, name, NO_WINDOW, keepAlive, (changed) => {
    const window = client.window<Name, Column>(channel, { key, columns, order, limit, count, filter: filter || undefined });
    return followWindow(window, changed);
  });
}

/** The notifications that came while the store was open. */
export interface NotificationView<Data = any> {
  /** the newest first */
  readonly notifications: readonly Notification<Data>[];
  /** whatever comes from now on is there */
  readonly isReady: boolean;
  /** some may be missing: load them from where they are kept */
  readonly hasGap: boolean;
  /** why they are followed no longer */
  readonly error?: RowcastError;
  /** forgets those that are there, and the gap, for everybody who is shown them */
  clear(): void;
}

/** Which notifications a store asks for. */
export interface NotificationStoreOptions extends Lifetime {
  /** how many are kept: 100 unless told */
  limit?: number;
  /** those after this cursor too */
  since?: string;
}

const NOTHING: NotificationView<never> = { notifications: [], isReady: false, hasGap: false, clear() {} };

/**
 * A store of a user's notifications; without a user it asks for nothing. Stores of the same client, user and options share
 * one subscription.
 */
export function notificationStore<Data = any>(
  client: Client<any>,
  user: string | number | null | undefined,
  options: NotificationStoreOptions = {},
): Store<NotificationView<Data>> {
  const { enabled = true, keepAlive = KEEP_ALIVE, limit = 100, since } = options;
  if (!enabled || isNobody(user)) return emptyStore<NotificationView<Data>>(NOTHING);
  // no channel's name is an empty text
  const name = JSON.stringify(["", String(user), limit, since, keepAlive]);
  return makeStore<NotificationView<Data>>(client, name, NOTHING, keepAlive, (changed) => {
    const clear = () => update({ notifications: [], hasGap: false });
    let view: NotificationView<Data> = { ...NOTHING, clear };
    function update(part: Partial<NotificationView<Data>>): void {
      view = { ...view, ...part };
      changed(view.error !== undefined);
    }
    const subscription = client.notifications<Data>(user, { since }, {
      change: (told) => update({ notifications: [told, ...view.notifications].slice(0, limit) }),
      ready: () => update({ isReady: true }),
      resync: () => update({ hasGap: true }),
      error: (error) => error.final && update({ error }),
    });
    return { get: () => view, close: () => subscription.close() };
  });
}

/** How the state of a client is shown. */
export interface StateOptions {
  /** milliseconds that something worse than `live` has to last before it is shown: 0 unless told */
  delay?: number;
}

/** A store of `client.state`. Where pages are rendered it is `idle`. */
export function stateStore(client: Client<any>, { delay = 0 }: StateOptions = {}): Store<State> {
  const subscribers = new Set<(state: State) => void>();
  let shown = client.state;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ignore = () => {};

  function show(): void {
    clearTimeout(timer);
    timer = undefined;
    if (shown === client.state) return;
    shown = client.state;
    for (const run of subscribers) attempt(() => run(shown));
  }

  function changed(): void {
    const isFine = client.state === "live" || client.state === "idle";
    if (isFine || delay <= 0) show();
    // one pause, whatever it becomes meanwhile
    else timer ??= unref(setTimeout(show, delay));
  }

  return {
    get: () => (delay > 0 ? shown : client.state),
    getInitial: () => "idle",
    subscribe(run) {
      if (subscribers.size === 0) ignore = client.on("state", changed);
      changed();
      const subscriber = (state: State) => run(state);
      subscribers.add(subscriber);
      attempt(() => run(shown));
      return () => {
        if (!subscribers.delete(subscriber) || subscribers.size > 0) return;
        ignore();
        clearTimeout(timer);
        timer = undefined;
      };
    },
  };
}
