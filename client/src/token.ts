/** A JWT, or a function that is asked for one at each connection, and before one ends. */
export type Token = string | (() => string | Promise<string>);

/** How a token goes to the server: browsers can set no header, so it is offered as a subprotocol. */
export function subprotocols(token: string | undefined): string[] {
  return token ? ["rowcast.v1", `bearer.${token}`] : ["rowcast.v1"];
}

/**
 * Milliseconds until a token that ends in so many seconds is renewed: half of them, so that nobody asks without a pause
 * where tokens are short, or where the same one is given again.
 */
export function renewIn(seconds: number): number {
  return Math.max(seconds, 2) * 500;
}
