/** A collection as a store of Svelte's contract, from which other frameworks' bindings are a few lines. */
import type { Client, Collection, CollectionOptions, RowcastError } from "./index.js";

/** A collection at one moment. */
export interface View<Row> {
  /** the same array until a row changes */
  readonly rows: readonly Row[];
  /** the rows are those of the table */
  readonly isReady: boolean;
  /** why the rows are followed no longer */
  readonly error?: RowcastError;
}

/** The collection is open while somebody has subscribed. */
export interface CollectionStore<Row> {
  get(): View<Row>;
  /** Calls `run` now and whenever the view has changed. Returns what ends that. */
  subscribe(run: (view: View<Row>) => void): () => void;
}

/** What a store asks for: its subscribers open and close it. */
export type StoreOptions<Row> = Omit<CollectionOptions<Row>, "signal">;

const EMPTY = { rows: [], isReady: false };
const stores = new WeakMap<Client<any>, Map<string, CollectionStore<any>>>();

/** A store of a channel's rows. Who asks for the same one again gets it, and shares its collection. */
export function collectionStore<Channels extends object, Name extends keyof Channels & string>(
  client: Client<Channels>,
  channel: Name,
  options: StoreOptions<Channels[Name]>,
): CollectionStore<Channels[Name]> {
  const make = () => makeStore(() => client.collection(channel, options));
  // two functions cannot be told to be alike
  if (typeof options.key === "function") return make();
  const known = stores.get(client) ?? new Map();
  stores.set(client, known);
  const name = JSON.stringify([channel, options]);
  if (!known.has(name)) known.set(name, make());
  return known.get(name);
}

function makeStore<Row>(open: () => Collection<Row>): CollectionStore<Row> {
  const subscribers = new Set<(view: View<Row>) => void>();
  let collection: Collection<Row> | undefined;
  let view: View<Row> = EMPTY;

  function update(part: Partial<View<Row>>): void {
    view = { ...view, ...part };
    for (const run of subscribers) run(view);
  }

  function follow(opened: Collection<Row>): void {
    collection = opened;
    opened.on("change", () => update({ rows: [...opened.values()] }));
    opened.on("error", (error) => error.final && update({ error }));
    opened.ready.then(
      () => collection === opened && update({ isReady: true }),
      () => {}, // the event has told
    );
  }

  return {
    get: () => view,
    subscribe(run) {
      if (subscribers.size === 0) follow(open());
      // one function may subscribe twice
      const subscriber = (view: View<Row>) => run(view);
      subscribers.add(subscriber);
      run(view);
      return () => {
        if (!subscribers.delete(subscriber) || subscribers.size > 0) return;
        collection?.close();
        collection = undefined;
        view = EMPTY;
      };
    },
  };
}
