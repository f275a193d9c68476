/**
 * What went wrong. `code` is what a program asks for: a code of an `error` message of the server, or one of
 * `bad_request`, `forbidden`, `unauthenticated` (close codes), `no_socket` (no socket could be made), `behind` (an
 * iterator was read too slowly), `closed`.
 */
export class RowcastError extends Error {
  override readonly name = "RowcastError";

  constructor(
    readonly code: string,
    message: string,
    /** The subscription has ended. Otherwise it goes on, and this is news. */
    readonly final = true,
  ) {
    super(message);
  }
}
