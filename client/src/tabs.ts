import { groupOf } from "./group.js";
import { Leader } from "./leader.js";
import { hold, onLeave, post, type Call, type Post, type ToLeader, type ToMember } from "./post.js";
import type { Socket } from "./socket.js";
import type { CursorStorage } from "./subscription.js";

/** How often a member looks whether its leader lives: milliseconds, and as many again at random, so that not all do at once. */
const CHECK_EVERY = 1_000;
/** After so many looks without a word it asks. */
const ASKS_AFTER = 2;
/** After so many it takes the place of a leader that has not answered at all. */
const LEADS_AFTER = 3;
/** After so many it leaves one that answers no longer. */
const LEAVES_AFTER = 5;

const CONNECTING = 0;
const OPEN = 1;
const CLOSED = 3;

/** A group has so many sockets at most. A tab that cannot share the last one has a socket that is not shared. */
const MOST = 3;

/** Of a group, which of its sockets this page tries next, where that is not the first one. */
const next = new Map<string, number>();

/**
 * A `WebSocket` for `connect` that all tabs of an origin share: `connect("/", { WebSocket: SharedSocket })`. One of the tabs
 * has the real one. When it goes away, or does not answer, another one opens the next, and every tab's client resumes with
 * its own cursors. Only tabs with the same server and with tokens of the same claims share. Where the browser cannot, it is
 * a socket of this tab alone.
 */
export class SharedSocket implements Socket {
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;

  readonly #id = name();
  readonly #url!: string;
  readonly #protocols!: string[];
  readonly #group!: string;
  /** which of the group's sockets it is a part of */
  readonly #which!: number;
  /** of those that are a part of that one */
  readonly #name!: string;
  readonly #all!: Post<Call>;
  readonly #inbox!: Post<never>;
  readonly #releases: (() => void)[] = [];
  #readyState = CONNECTING;
  #leader: { id: string; post: Post<ToLeader> } | undefined;
  /** looks since the leader was last heard */
  #looks = 0;
  /** the server has not said anything since it was asked whether it lives */
  #isAsked = false;

  constructor(url: string, protocols: string[]) {
    const group = groupOf(url, protocols);
    const which = next.get(group ?? "") ?? 0;
    next.delete(group ?? "");
    if (group === undefined || which >= MOST || !canShare()) return new WebSocket(url, protocols) as any;
    this.#url = url;
    this.#protocols = protocols;
    this.#group = group;
    this.#which = which;
    this.#name = `${group} ${which}`;
    this.#all = post<Call, Call>(this.#name, (call) => this.#called(call));
    this.#inbox = post<never, ToMember>(this.#id, (message) => this.#heard(message));
    const timer = setInterval(() => this.#look(), CHECK_EVERY * (1 + Math.random()));
    this.#releases.push(
      () => clearInterval(timer),
      onLeave(() => this.#end(1001, "the page goes away")),
      // the tab that leads learns from it that this one is gone, however it goes
      hold(
        this.#id,
        () => this.#all.post({ kind: "hello", from: this.#id }),
        () => this.#goTo(MOST),
      ),
      this.#lead(false),
    );
  }

  get readyState(): number {
    return this.#readyState;
  }

  send(text: string): void {
    if (this.#readyState !== OPEN) return;
    const { type, token } = JSON.parse(text);
    // another token may show something else: that is another group
    if (type === "auth" && groupOf(this.#url, [`bearer.${token}`]) !== this.#group) return this.#end(1006, "");
    if (type === "ping") this.#isAsked = true;
    this.#tell({ kind: "command", from: this.#id, text });
  }

  close(): void {
    if (this.#readyState === CLOSED) return;
    // a server that does not answer this one does not answer the next one either: all need another socket
    if (this.#isAsked) this.#tell({ kind: "dead", from: this.#id });
    this.#leave();
  }

  /** Leads as soon as no other tab does, or instead of the one that does. Returns what ends waiting for that. */
  #lead(isForced: boolean): () => void {
    const gone = new AbortController();
    const options = isForced ? { steal: true } : { signal: gone.signal };
    let leader: Leader | undefined;
    const leading = navigator.locks.request(`rowcast leader ${this.#name}`, options, () => {
      if (this.#readyState === CLOSED) return;
      // the one that it had is gone. Its own token may have ended since: the client brings the next socket another one
      if (this.#leader) return this.#end(1006, "");
      leader = new Leader(this.#name, new WebSocket(this.#url, this.#protocols), this.#id);
      return leader.ended;
    });
    // no longer wanted; or taken away by a tab that this one did not answer
    leading.catch(() => leader?.end(1006, ""));
    return () => gone.abort();
  }

  #called({ kind, from }: Call): void {
    if (kind !== "led" || this.#leader?.id === from) return;
    if (this.#leader) this.#end(1006, "");
    else this.#all.post({ kind: "hello", from: this.#id });
  }

  #heard(message: ToMember): void {
    // one that was taken the place of may not know it yet
    this.#leader ??= { id: message.from, post: post<ToLeader>(message.from) };
    if (this.#leader.id !== message.from) return;
    this.#looks = 0;
    if (message.kind === "message") {
      this.#isAsked = false;
      this.onmessage?.({ data: message.text });
    } else if (message.kind === "closed") {
      if (message.isFull) this.#goTo(this.#which + 1);
      else this.#end(message.code, message.reason);
    } else if (message.isOpen && this.#readyState === CONNECTING) {
      this.#readyState = OPEN;
      this.onopen?.({});
    }
  }

  /** Looks are counted, and not the time: a page that was busy itself has heard nothing meanwhile. */
  #look(): void {
    this.#looks++;
    if (this.#leader) {
      if (this.#looks >= LEAVES_AFTER) this.#end(1006, "");
      else if (this.#looks >= ASKS_AFTER) this.#tell({ kind: "check", from: this.#id });
    } else if (this.#looks === LEADS_AFTER) {
      this.#lead(true);
    }
  }

  /** The client comes back, and tries another socket then. */
  #goTo(which: number): void {
    next.set(this.#group, which);
    this.#end(1006, "");
  }

  #tell(message: ToLeader): void {
    this.#leader?.post.post(message);
  }

  #end(code: number, reason: string): void {
    if (this.#readyState === CLOSED) return;
    this.#leave();
    this.onclose?.({ code, reason });
  }

  #leave(): void {
    this.#readyState = CLOSED;
    for (const release of this.#releases.splice(0)) release();
    for (const { close } of [this.#all, this.#inbox]) close();
    this.#leader?.post.close();
  }
}

/**
 * Where the cursors of subscriptions outlive a page with several tabs. A tab goes on where it was itself; a new one
 * where the tab that was told last is. `user` keeps apart the users who share a browser.
 */
export function tabStorage(user: string | number = ""): CursorStorage {
  const own = (key: string): string => `${key} ${user}`;
  return {
    getItem: (key) => sessionStorage.getItem(own(key)) ?? localStorage.getItem(own(key)),
    setItem(key, cursor) {
      for (const storage of [sessionStorage, localStorage]) storage.setItem(own(key), cursor);
    },
    removeItem(key) {
      for (const storage of [sessionStorage, localStorage]) storage.removeItem(own(key));
    },
  };
}

function canShare(): boolean {
  // both are there in a secure context only: https, or this machine
  return !!globalThis.navigator?.locks && !!globalThis.BroadcastChannel && !!globalThis.crypto?.randomUUID;
}

function name(): string {
  return globalThis.crypto?.randomUUID?.() ?? "";
}
