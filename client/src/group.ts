/** Claims that differ between two tokens of one holder. */
const OF_A_TOKEN = ["exp", "iat", "nbf", "jti"];

/**
 * Names the tabs that may share a socket: they ask the same server, and their tokens say the same of them. Of a token
 * that cannot be read nothing is known, so its holder shares with nobody. The server checks the token of the one that
 * opens the socket.
 */
export function groupOf(url: string, protocols: readonly string[]): string | undefined {
  const token = protocols.find((each) => each.startsWith("bearer."))?.slice("bearer.".length);
  const claims = token === undefined ? [] : claimsOf(token);
  return claims && JSON.stringify([url, ...claims]);
}

function claimsOf(token: string): [string, unknown][] | undefined {
  try {
    const text = atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"));
    const claims: object = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
    const entries = Object.entries(claims).filter(([name]) => !OF_A_TOKEN.includes(name));
    // a token without any claim is not the same as no token
    return [["token", true], ...entries.sort(([one], [other]) => (one < other ? -1 : 1))];
  } catch {
    return undefined;
  }
}
