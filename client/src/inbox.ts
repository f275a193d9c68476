/** A user's messages that stay until they were read, as a store: two windows of one moment. */
import type { Client, Order, RowcastError } from "./index.js";
import { emptyStore, isNobody, KEEP_ALIVE, makeStore, type Lifetime, type Store } from "./shared.js";
import { followWindow, type WindowView } from "./window-view.js";

/** Up to so many rows the server counts. Beyond them it estimates, and tells no estimate to a client that sees a part of them. */
const COUNTED = 10_000;

/** A user's inbox at one moment. */
export interface InboxView<Row> {
  /** the first messages in the order, read and unread; the same array until one of them changes */
  readonly messages: readonly Row[];
  /** how many of all the user's messages are unread, also of those that are not loaded */
  readonly unread: number;
  /** `unread` is no estimate. Where more than 10,000 were unread at first it is one, or 10,000 under a policy that restricts rows */
  readonly isExact: boolean;
  /** there are more messages */
  readonly hasMore: boolean;
  /** fewer messages than asked for are shown, and the next ones are on their way */
  readonly isLoading: boolean;
  /** messages and number are those of the table. Before that none are shown */
  readonly isReady: boolean;
  /** why the inbox is followed no longer */
  readonly error?: RowcastError;
  /** shows more messages, as many as `limit` unless told, to everybody who is shown this inbox */
  loadMore(count?: number): void;
}

/** Where the messages of an inbox stand. */
export interface InboxStoreOptions<Channels extends object, Name extends keyof Channels & string> extends Lifetime {
  /** the channel of the messages: `inbox` unless told */
  channel?: Name;
  /** the table's primary key: `inbox_id` unless told */
  key?: keyof Channels[Name] & string;
  /**
   * the column of a message's user: `user_id` unless told. With `false` the store asks for all rows that the client may see,
   * for a policy that restricts them to the user's and hides this column
   */
  userColumn?: (keyof Channels[Name] & string) | false;
  /** the column that is null while a message is unread: `read_at` unless told */
  readColumn?: keyof Channels[Name] & string;
  /** by the key, the newest first, unless told. An index of the table has to serve it */
  order?: Order<Channels[Name]> | readonly Order<Channels[Name]>[];
  /** how many messages are shown at first: 20 unless told */
  limit?: number;
}

const NO_INBOX: InboxView<never> = {
  messages: [],
  unread: 0,
  isExact: false,
  hasMore: false,
  isLoading: false,
  isReady: false,
  loadMore() {},
};

/**
 * A store of a user's messages, which are rows of a table: the newest first, read and unread, and how many are unread. It is
 * the same after a reload and on every device. Without a user it asks for nothing. To mark a message as read is a write of
 * your application: it sets `readColumn`, and every open inbox follows. Stores of the same client, user and options share two
 * windows.
 */
export function inboxStore<Channels extends object, Name extends keyof Channels & string = keyof Channels & "inbox">(
  client: Client<Channels>,
  user: string | number | null | undefined,
  options: InboxStoreOptions<Channels, Name> = {},
): Store<InboxView<Channels[Name]>> {
  type View = InboxView<Channels[Name]>;
  const { channel = "inbox", key = "inbox_id", userColumn = "user_id", readColumn = "read_at" } = options;
  const { order = `${key}.desc`, limit = 20, enabled = true, keepAlive = KEEP_ALIVE } = options;
  if (!enabled || isNobody(user)) return emptyStore<View>(NO_INBOX);
  const own = userColumn === false ? [] : [`${userColumn}=eq.${user}`];
  const name = JSON.stringify({ inbox: [channel, String(user), key, userColumn, readColumn, order, limit, keepAlive] });
  return makeStore<View>(client, name, NO_INBOX, keepAlive, (changed) => {
    const rows: Client<any> = client;
    const messages = followWindow(rows.window(channel, { key, order, limit, filter: own }), update);
    // its rows are not shown: one tells whether there are any
    const isUnread = { key, columns: [key], filter: [...own, `${readColumn}=is.null`], limit: 1, count: true };
    const unread = followWindow(rows.window(channel, isUnread), update);
    let view = toInbox<Channels[Name]>(messages.get(), unread.get());
    let told = view;

    /** Both windows are at one moment, also before the second one has told its listeners. Of both, not all is shown. */
    function get(): View {
      const now = toInbox<Channels[Name]>(messages.get(), unread.get());
      const names = Object.keys({ ...view, ...now }) as (keyof View)[];
      if (names.some((name) => view[name] !== now[name])) view = now;
      return view;
    }
    function update(): void {
      if (told !== get()) changed((told = view).error !== undefined);
    }
    return { get, close: () => [messages, unread].forEach((part) => part.close()) };
  });
}

function toInbox<Row>(shown: WindowView<Row>, unread: WindowView<unknown>): InboxView<Row> {
  const { rows: messages, hasMore, isLoading, loadMore } = shown;
  const error = shown.error ?? unread.error;
  const isReady = shown.isReady && unread.isReady;
  // one of them may come before the other
  if (!isReady) return { ...NO_INBOX, isLoading: !error, ...(error && { error }) };
  return {
    messages,
    unread: unread.hasMore ? (unread.count ?? COUNTED) : unread.rows.length,
    isExact: !unread.hasMore || unread.isExact === true,
    hasMore,
    isLoading,
    isReady,
    loadMore,
    ...(error && { error }),
  };
}
