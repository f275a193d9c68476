import { useMemo, useSyncExternalStore } from "react";
import type { Client } from "./index.js";
import { collectionStore, type StoreOptions, type View } from "./store.js";

/** The rows of a channel, live while the component is mounted. Of a `key` that is a function, the first one counts. */
export function useCollection<Channels extends object, Name extends keyof Channels & string>(
  client: Client<Channels>,
  channel: Name,
  options: StoreOptions<Channels[Name]>,
): View<Channels[Name]> {
  const store = useMemo(() => collectionStore(client, channel, options), [client, channel, JSON.stringify(options)]);
  return useSyncExternalStore(store.subscribe, store.get, store.get);
}
