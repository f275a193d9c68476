/** Which part of a channel is asked for, as types. They want no library of a browser. */

type Operator = "eq" | "neq" | "in" | "lt" | "lte" | "gt" | "gte" | "like" | "ilike" | "is";

/**
 * `user_id=eq.123`, or `or=(user_id.eq.1,user_id.eq.2)`, in the grammar of PostgREST: a column of `Row`. Any text where the columns
 * are not known.
 */
export type Filter<Row = any> = string extends keyof Row
  ? string
  : `${keyof Row & string}=${"" | "not."}${Operator}.${string}` | `${"" | "not."}${"or" | "and"}=(${string})`;

/** `created_at.desc,order_id`, in the grammar of PostgREST. Begins with a column of `Row`. */
export type Order<Row = any> = string extends keyof Row
  ? string
  : `${keyof Row & string}${"" | `.${string}` | `,${string}`}`;

/** Rows like `Row` with the columns that were asked for; all of them where none were. */
export type Part<Row, Column extends string> = [NoInfer<Column>] extends [never]
  ? Row
  : string extends keyof Row
    ? Row
    : Pick<Row, NoInfer<Column> & keyof Row>;

/** The part of an `AbortSignal` that is used. */
export interface Abort {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(event: "abort", listener: () => void): void;
  removeEventListener(event: "abort", listener: () => void): void;
}
