export { connect, type Client, type ConnectOptions, type NotificationOptions } from "./client.js";
export type { Collection, CollectionOptions, Difference, Key } from "./collection.js";
export type { State } from "./connection.js";
export { RowcastError } from "./error.js";
export type { Change, Notification, Subscribed } from "./messages.js";
export type { Abort, Filter, Part } from "./part.js";
export type { CursorStorage, Handlers, SubscribeOptions, Subscription } from "./subscription.js";
export type { Token } from "./token.js";
