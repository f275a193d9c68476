/**
 * What the tabs of an origin tell each other. Each member, which is a shared socket of some client, and each leader has a
 * channel of its own by its name; all of a group have one more.
 */

/** To all of a group. */
export type Call =
  /** a member looks for its leader */
  | { kind: "hello"; from: string }
  /** there is a new leader, and no other one any more */
  | { kind: "led"; from: string };

/** To a leader. */
export type ToLeader =
  | { kind: "command"; from: string; text: string }
  /** asks for a sign of life */
  | { kind: "check"; from: string }
  /** the server has not answered a ping */
  | { kind: "dead"; from: string };

/** To a member. */
export type ToMember =
  /** the answer to `hello` and `check`. With `isOpen` the server can be spoken to */
  | { kind: "here"; from: string; isOpen: boolean }
  | { kind: "message"; from: string; text: string }
  /** the socket is no more for this member. `isFull`: it wants what this socket cannot give, and another one may */
  | { kind: "closed"; from: string; code: number; reason: string; isFull: boolean };

/** Sends to all of a group, or to one by name. What is posted after `close` goes nowhere. */
export interface Post<Message> {
  post(message: Message): void;
  close(): void;
}

/** A channel by name, in both directions. */
export function post<Sent, Heard = never>(name: string, hear?: (message: Heard) => void): Post<Sent> {
  const channel = new BroadcastChannel(`rowcast ${name}`);
  if (hear) channel.onmessage = ({ data }) => hear(data);
  let isClosed = false;
  return {
    post(message) {
      if (!isClosed) channel.postMessage(message);
    },
    close() {
      isClosed = true;
      channel.close();
    },
  };
}

/**
 * Holds a lock by name until what is returned is called, or the page is gone. Calls `then` when it has it, and `refused` where
 * the browser gives this page none.
 */
export function hold(name: string, then: () => void, refused = (): void => {}): () => void {
  const gone = new AbortController();
  let release = (): void => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const request = navigator.locks.request(`rowcast ${name}`, { signal: gone.signal }, () => {
    then();
    return held;
  });
  request.catch(({ name }) => name !== "AbortError" && refused());
  return () => {
    release();
    gone.abort();
  };
}

/** Calls when the page goes away or is frozen: whatever others wait for has to be given up. Returns what ends that. */
export function onLeave(leave: () => void): () => void {
  globalThis.addEventListener?.("pagehide", leave);
  globalThis.document?.addEventListener("freeze", leave);
  return () => {
    globalThis.removeEventListener?.("pagehide", leave);
    globalThis.document?.removeEventListener("freeze", leave);
  };
}
