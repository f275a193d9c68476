/** Queries of TanStack Query, SWR and the like that are fetched again when rows have changed. */
import { attempt } from "./attempt.js";
import { toJson } from "./json.js";
import type { Change, Client } from "./index.js";

/**
 * The key of what a change makes stale, or a function that says the keys. It is called without a change where changes may be
 * missing, and when the channel begins to be followed: whatever was fetched before may have missed one.
 */
export type Stale<Row, QueryKey> = QueryKey | ((change: Change<Row> | undefined) => readonly QueryKey[]);

/**
 * Says which keys are stale, each once for a transaction: `invalidate(client, { pets: ["pets"] }, (queryKey) =>
 * queryClient.invalidateQueries({ queryKey }))`, or with `mutate` of SWR. Returns what ends it.
 */
export function invalidate<Channels extends object, QueryKey = any>(
  client: Client<Channels>,
  channels: { [Name in keyof Channels & string]?: Stale<Channels[Name], NoInfer<QueryKey>> },
  isStale: (key: QueryKey) => unknown,
): () => void {
  const subscriptions = Object.keys(channels).map((channel) => {
    const stale = channels[channel as keyof Channels & string] as Stale<any, QueryKey>;
    const keys = new Map<string, QueryKey>();
    const add = (change?: Change): void => {
      const all = typeof stale === "function" ? (stale as (change?: Change) => readonly QueryKey[])(change) : [stale];
      for (const key of all) keys.set(toJson(key), key);
    };
    const tell = (): void => {
      const due = [...keys.values()];
      keys.clear();
      for (const key of due) attempt(() => void isStale(key));
    };
    return client.subscribe(channel as keyof Channels & string, {}, {
      change: add as (change: unknown) => void,
      ready: ({ recovered }) => recovered || add(),
      resync: () => (add(), tell()),
      // once all collections show the transaction too
      cut: () => tell,
    });
  });
  return () => subscriptions.forEach((subscription) => subscription.close());
}
