"use client";
import { useMemo, useSyncExternalStore } from "react";
import type { Client, Part, State } from "./index.js";
import {
  collectionStore,
  inboxStore,
  notificationStore,
  stateStore,
  windowStore,
  type CollectionStoreOptions,
  type InboxStoreOptions,
  type InboxView,
  type NotificationStoreOptions,
  type NotificationView,
  type StateOptions,
  type Store,
  type View,
  type WindowStoreOptions,
  type WindowView,
} from "./store.js";

/** The rows of a channel, live while the component is mounted. Of a `key` that is a function, the first one counts. */
export function useCollection<
  Channels extends object,
  Name extends keyof Channels & string,
  Column extends keyof Channels[Name] & string = never,
>(
  client: Client<Channels>,
  channel: Name,
  options: CollectionStoreOptions<Channels[Name], Column>,
): View<Part<Channels[Name], Column>> {
  return useStore(useMemo(() => collectionStore(client, channel, options), [client, channel, JSON.stringify(options)]));
}

/** The first rows of a channel in an order, live while the component is mounted. Of a `key` that is a function, the first one counts. */
export function useWindow<
  Channels extends object,
  Name extends keyof Channels & string,
  Column extends keyof Channels[Name] & string = never,
>(
  client: Client<Channels>,
  channel: Name,
  options: WindowStoreOptions<Channels[Name], Column>,
): WindowView<Part<Channels[Name], Column>> {
  return useStore(useMemo(() => windowStore(client, channel, options), [client, channel, JSON.stringify(options)]));
}

/**
 * A user's messages, read and unread, and how many are unread, live while the component is mounted; without a user there are
 * none. To mark a message as read is a write of your application.
 */
export function useInbox<Channels extends object, Name extends keyof Channels & string = keyof Channels & "inbox">(
  client: Client<Channels>,
  user: string | number | null | undefined,
  options: InboxStoreOptions<Channels, Name> = {},
): InboxView<Channels[Name]> {
  return useStore(useMemo(() => inboxStore(client, user, options), [client, user, JSON.stringify(options)]));
}

/** The notifications that a user is told while the component is mounted; without a user there are none. */
export function useNotifications<Data = any>(
  client: Client<any>,
  user: string | number | null | undefined,
  options: NotificationStoreOptions = {},
): NotificationView<Data> {
  const store = useMemo(() => notificationStore<Data>(client, user, options), [client, user, JSON.stringify(options)]);
  return useStore(store);
}

/** How things stand with a client: `client.state`, or with `delay` only what lasts. */
export function useConnectionState(client: Client<any>, { delay }: StateOptions = {}): State {
  return useStore(useMemo(() => stateStore(client, { delay }), [client, delay]));
}

function useStore<Shown>(store: Store<Shown>): Shown {
  return useSyncExternalStore(store.subscribe, store.get, store.getInitial);
}
