/** The wire, as docs/reference/protocol.md describes it: what the server sends. */
import type { OrderColumn } from "./ordered.js";

/** What identifies a row: the value of its key column, or a text made of several. */
export type Key = string | number;

interface Base {
  /** when the change was captured: RFC 3339, UTC, microseconds */
  timestamp: string;
  /** unique in the database; orders the changes of a transaction, and no others */
  id: number;
  /** the position after this message */
  cursor: string;
  /** the transaction */
  tx: string;
  /** the row is longer than the database's `row_bytes`: `data` holds its key alone, and `changed` is empty */
  omitted?: "row_bytes";
  /** who wrote: a hint, no proof */
  actor?: string;
  /** nothing of the cut follows on this channel */
  last?: true;
}

interface Update extends Base {
  type: "realtime_update";
  /** the channel */
  entity_type: string;
  view?: string;
}

/** A change of a row. `rowcast.publish` may send other actions than these. */
export type Change<Row = any> = Update &
  (
    | { action: "created" | "deleted" | "entered" | "left"; data: Row }
    | { action: "truncated"; data: null }
    | {
        action: "updated";
        /** with `changed` the key and the columns that differ alone */
        data: Row;
        /** the columns that differ; with `latest` none is named */
        changed: (keyof Row & string)[];
        /** where the primary key changed: the key as it was. Asked for with `old`: all that changed, as it was */
        old?: Partial<Row>;
      }
  );

/** Something that a user is told. */
export interface Notification<Data = any> extends Base {
  type: "notification";
  notification_type: string;
  user_id: string;
  data: Data;
}

/** A subscription is live: every change after `cursor` follows. */
export interface Subscribed {
  type: "subscribed";
  channel: string;
  /** which subscription of the channel, where the socket has several */
  view?: string;
  cursor: string;
  /** nothing is missing since the cursor that was asked for */
  recovered: boolean;
  /** changes that came before this message */
  replayed: number;
}

/** A part of a page of rows. What is not in each part is in the last one. */
export interface Rows {
  type: "rows";
  channel: string;
  view?: string;
  rows: unknown[];
  /** the row is too long: of its columns it has those of the key and of the order alone */
  omitted?: "row_bytes";
  last: boolean;
  /** rows lie behind it */
  more?: boolean;
  /** the whole order, with the columns that the server has added */
  order?: OrderColumn[];
  count?: number;
  /** `count` is no estimate */
  exact?: boolean;
  /** the position at which it was read */
  cursor?: string;
  /** of the first page of a subscription: none */
  ref?: PageRef;
}

/** Names a page: its subscription, and a number. */
export type PageRef = [subscription: string, n: number];

/** Something went wrong with a command, or with a subscription that was fine until now. */
export interface Complaint {
  type: "error";
  code: string;
  message: string;
  /** of a command: its subscription, the page that was asked for, or the number of a `sync` */
  ref?: string | PageRef | number;
  /** of no command: the channel, where it is of one */
  channel?: string;
  view?: string;
  /** `rate_limited`: seconds until the next command */
  retry_after?: number;
}

/** What the server sends. */
export type Message =
  | Change
  | Notification
  | Subscribed
  | Rows
  | { type: "snapshot"; channel: string; view?: string; rows: unknown[]; omitted?: "row_bytes"; last: boolean; cursor?: string }
  | { type: "gap"; channel: string; view?: string; reason: string }
  | { type: "heartbeat"; channel: string; view?: string; cursor: string }
  | { type: "unsubscribed"; channel: string; view?: string }
  | { type: "cut"; channel?: string; view?: string; cursor?: string }
  | { type: "pong" | "authenticated"; channel?: undefined }
  /** all up to the cursor of a command was sent */
  | { type: "synced"; ref: number; channel?: undefined }
  | { type: "token_expiring"; expires_in: number; channel?: undefined }
  | Complaint;

/** The channel of a user's notifications. */
export function userChannel(user: string | number): string {
  return `user/${user}`;
}

/** Names a subscription on its socket: the channel, and the view where there are several of it. */
export function idOf(channel: string, view?: string): string {
  return view ? `${channel} ${view}` : channel;
}

/**
 * The subscription that a message is of. Commands about one have its name as `ref`, which comes back in an `error`. What is
 * about the whole socket is of none.
 */
export function subscriptionOf(message: Message): string | undefined {
  switch (message.type) {
    case "realtime_update":
      return idOf(message.entity_type, message.view);
    case "notification":
      return userChannel(message.user_id);
    case "error":
      if (message.channel) return idOf(message.channel, message.view);
      if (Array.isArray(message.ref)) return message.ref[0];
      return typeof message.ref === "string" ? message.ref : undefined;
    default:
      return message.channel && idOf(message.channel, (message as Subscribed).view);
  }
}
