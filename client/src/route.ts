import { idOf, type Message, type Subscribed } from "./messages.js";

/** So many messages of a user's channel are kept for readers that join it. */
const KEPT = 1_000;

/** What the server says, as it came; without `text` something is said in its place. */
export interface Said {
  readonly message: Message;
  readonly text?: string;
}

/** A member's subscription, by the names that the member gave it. */
export interface Reader {
  readonly member: string;
  readonly channel: string;
  readonly view: string | undefined;
  ref: unknown;
}

/**
 * A subscription of the real socket, and the members that read it. A user's channel has one for all of them, as it takes no
 * views; any other has one for each reader. Owns what a reader is told that joins the others.
 */
export class Route {
  /** what the socket knows it by; also the `ref` of its commands */
  readonly id: string;
  readonly readers: Reader[] = [];
  /** it was left, and the server has not confirmed it */
  isLeft = false;
  /** the position before what is kept, if one was asked for or something came */
  #start: string | undefined;
  readonly #kept: Said[] = [];
  #isJoined = false;
  /** readers that want what comes once it is live */
  readonly #early: Reader[] = [];

  constructor(
    readonly channel: string,
    readonly view: string | undefined,
    since: string | undefined,
  ) {
    this.id = idOf(channel, view);
    this.#start = since;
  }

  /** All readers that are told of an error. */
  get all(): readonly Reader[] {
    return [...this.readers, ...this.#early];
  }

  /** A member's reader goes. Returns whether it had one. */
  remove(member: string): boolean {
    let had = false;
    for (const readers of [this.readers, this.#early]) {
      const at = readers.findIndex((reader) => reader.member === member);
      if (at >= 0) had = readers.splice(at, 1).length > 0;
    }
    return had;
  }

  /** What the server says of a user's channel. Returns those that join the others with it. */
  keep(said: Said): Reader[] {
    const { message } = said;
    if (!("cursor" in message) && message.type !== "gap") return [];
    this.#kept.push(said);
    if (this.#kept.length > KEPT) this.#start = cursorOf(this.#kept.shift()!) ?? this.#start;
    if (message.type !== "subscribed") return [];
    this.#isJoined = true;
    const joined = this.#early.splice(0);
    this.readers.push(...joined);
    return joined;
  }

  /**
   * A reader joins the others at its position. Returns what was missed since, with what says that it is live if that is so; or
   * nothing where the position is none that is known here.
   */
  join(reader: Reader, since: string | undefined): Said[] | undefined {
    if (since === undefined && !this.#isJoined) {
      this.#early.push(reader);
      return [];
    }
    const at = since === undefined ? this.#kept.length : this.#after(since);
    if (at === undefined) return undefined;
    this.readers.push(reader);
    const missed = this.#kept.slice(at).filter(({ message }) => ["notification", "gap"].includes(message.type));
    if (!this.#isJoined) return missed;
    const isWhole = missed.every(({ message }) => message.type !== "gap");
    const cursor = this.#kept.map(cursorOf).filter((cursor) => cursor).at(-1) ?? this.#start!;
    const { length } = missed.filter(({ message }) => message.type === "notification");
    return [...missed, { message: subscribed(this.channel, cursor, since !== undefined && isWhole, length) }];
  }

  #after(place: string): number | undefined {
    const at = this.#kept.map(cursorOf).lastIndexOf(place);
    return at >= 0 ? at + 1 : place === this.#start ? 0 : undefined;
  }
}

/** What tells a reader that it is live. */
export function subscribed(channel: string, cursor: string, recovered: boolean, replayed: number): Subscribed {
  return { type: "subscribed", channel, cursor, recovered, replayed };
}

/** A message with another view, or none. Its digits stay, which would not outlive being read and written again. */
export function renamed(text: string, from: string | undefined, to: string | undefined): string | undefined {
  if ((from || "") === (to || "")) return text;
  const [old, next] = [`,"view":"${from}"`, to ? `,"view":"${to}"` : ""];
  for (let at = text.indexOf(old); at >= 0; at = text.indexOf(old, at + 1)) {
    const changed = text.slice(0, at) + next + text.slice(at + old.length);
    // a row may hold the same words
    if (text.indexOf(old) === text.lastIndexOf(old) || (JSON.parse(changed).view || "") === (to || "")) return changed;
  }
  return undefined;
}

function cursorOf({ message }: Said): string | undefined {
  return "cursor" in message ? message.cursor : undefined;
}
