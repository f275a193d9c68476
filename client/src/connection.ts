import { attempt as call } from "./attempt.js";
import { Backoff } from "./backoff.js";
import { RowcastError } from "./error.js";
import { toJson } from "./json.js";
import { subscriptionOf, type Complaint, type Message } from "./messages.js";
import type { Socket } from "./socket.js";
import { Stream } from "./stream.js";
import type { Subscription } from "./subscription.js";
import { renewIn, subprotocols, type Token } from "./token.js";
import type { Page } from "./window.js";

/** Silence after which the server is asked whether it lives. Its heartbeats come after 25 to 50 s. */
export const PING_AFTER = 30_000;
/** A server that lives answers within this time. */
export const ANSWER_WITHIN = 5_000;
/** A socket that does not open within this time is given up. */
export const OPEN_WITHIN = 15_000;
/** A token's function may wait for a user who signs in. */
export const TOKEN_WITHIN = 300_000;

/** A channel that was there, and is not, may be there again: a table is taken out and watched anew. It is asked for so often. */
export const ABSENT = 10_000;

/**
 * Collections wait for one that is read anew, so that all show the same moment: as long as something of it comes, and so long
 * beyond. Then they go on without it.
 */
export const PATIENCE = 10_000;

const CONNECTING = 0;
const OPEN = 1;

/** Close codes that end the subscriptions, as codes of `RowcastError`. After any other one they resume. */
const FINAL: Record<number, string | undefined> = {
  4400: "bad_request",
  4401: "unauthenticated",
  4403: "forbidden",
  4404: "unknown_channel",
};

/** Why a page did not come that may come later: the server lost its database meanwhile, or others are on their way. */
const AGAIN = ["unanswered", "too_many_pages"];

/** Errors after which the server no longer serves a channel that was fine until then. */
const LOST = ["unknown_channel", "bad_filter", "forbidden"];

/** How things stand, the best first. */
export const STATES = ["idle", "live", "source_down", "connecting"] as const;

/**
 * `idle`: nothing is subscribed. `live`: what is shown is current. `source_down`: the server is without its database.
 * `connecting`: there is no socket yet or no longer, or a subscription has not begun.
 */
export type State = (typeof STATES)[number];

/** A `sync` that waits. */
interface Sync {
  readonly command: object;
  isSynced: boolean;
  resolve(): void;
  reject(reason: unknown): void;
}

/** Counts those of all connections. */
let syncs = 0;

/** The client that holds the connections. */
export interface Host {
  /** where the paths of sockets begin, such as `wss://example.com` */
  readonly base: string;
  readonly token: Token | undefined;
  readonly parse: (text: string) => any;
  readonly WebSocket: new (url: string, protocols: string[]) => Socket;
  /** Finds a connection for a subscription. */
  place(subscription: Subscription): void;
  /** Forgets a connection that takes nothing any more. */
  forget(connection: Connection): void;
  /** The state of a connection may have changed. */
  changed(): void;
}

/**
 * One socket at a time, replaced whenever it is lost, and the subscriptions that it carries. Owns when to connect, to
 * ping and to give up; what a message means to a subscription is the subscription's.
 */
export class Connection {
  readonly #host: Host;
  readonly #subscriptions = new Map<string, Subscription>();
  /** Those that were left, and it was not confirmed: what still comes for them is not for the next one of that name. */
  readonly #leaving = new Map<string, { channel: string; view: string }>();
  readonly #backoff = new Backoff();
  #socket: Socket | undefined;
  /** counts attempts: an older one that still waits for its token has ended */
  #attempt = 0;
  /** until the next attempt, or of patience with the socket */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** until another token is asked for */
  #renewal: ReturnType<typeof setTimeout> | undefined;
  /** until a command that was one too many is sent again */
  #slow: ReturnType<typeof setTimeout> | undefined;
  /** until channels that are absent are asked for again */
  #absent: ReturnType<typeof setTimeout> | undefined;
  #isFull = false;
  /** a ping waits for its answer */
  #isAsked = false;
  /** sockets in a row that did not open */
  #unopened = 0;
  #triedAt = -Infinity;
  /** beside a stream: the socket that may take its place */
  #probe: Socket | undefined;
  /** how long a socket may be asked for an answer: on a slow line that stands behind a long message */
  #patience = ANSWER_WITHIN;
  #isDown = false;
  /** by their `ref`: cursors that somebody waits for, and whether the server has answered */
  readonly #syncs = new Map<number, Sync>();
  /** until a `sync` that was one too many is sent again */
  #slowSync: ReturnType<typeof setTimeout> | undefined;
  /** pages that were asked for with the stream */
  #said = new Set<Page>();
  /** nothing came since a cut that some subscription was waited for at */
  #isHeld = false;
  /** since when cuts are held up, and nothing came of what they wait for; and until they are no longer */
  #heldSince: number | undefined;
  #held: ReturnType<typeof setTimeout> | undefined;

  constructor(host: Host, first: Subscription) {
    this.#host = host;
    this.add(first);
    void this.#connect();
  }

  get state(): State {
    if (this.#isDown) return "source_down";
    if (!this.#isOpen) return "connecting";
    for (const { isCurrent } of this.#subscriptions.values()) if (!isCurrent) return "connecting";
    return "live";
  }

  /** @internal Whether there is room for a subscription: a socket carries each user once. */
  takes({ channel }: Subscription): boolean {
    return !this.#isFull && !(channel.startsWith("user/") && this.#subscriptions.has(channel));
  }

  add(subscription: Subscription): void {
    subscription.connection = this;
    const { channel, options } = subscription;
    const { filter, columns, old, changed, latest, every } = options;
    // of what is asked for, so that sockets that ask for the same share the server's frames
    const wishes = [filter, columns, old, changed, latest, every];
    const view = wishes.some(Boolean) ? digest(JSON.stringify(wishes)) : undefined;
    subscription.view = view;
    for (let n = 1; this.#subscriptions.has(subscription.id); n++) subscription.view = (view ?? "") + n;
    this.#subscriptions.set(subscription.id, subscription);
    this.#join(subscription);
  }

  remove(subscription: Subscription): void {
    this.#leave(subscription);
    this.#subscriptions.delete(subscription.id);
    this.#host.changed();
    // a caller that subscribes in its place before this turn ends finds the socket open
    queueMicrotask(() => {
      if (this.#subscriptions.size > 0) return this.#cutAgain();
      // nothing is shown that could be behind
      this.#syncs.forEach(({ resolve }) => resolve());
      this.#syncs.clear();
      this.close();
    });
  }

  /** Asks for the page that a subscription wants. */
  ask(subscription: Subscription): void {
    const { page } = subscription;
    if (!page || this.#said.has(page)) return;
    if (this.#socket instanceof Stream) this.#again();
    else if (this.#isOpen) this.#send(subscription.pageCommand(page));
  }

  /** Begins a subscription anew, once the server has confirmed that it was left. */
  rejoin(subscription: Subscription): void {
    this.#leave(subscription);
  }

  /** The network may be back, or the machine awake: waits no longer, and trusts the open socket no longer. */
  wake(): void {
    // asked already, it has its time to answer
    if (this.#isOpen) this.#isAsked || this.#ping();
    else if (this.#socket?.readyState !== CONNECTING) void this.#connect();
  }

  /** Settles when all that it carries shows what a cursor of the database speaks of. */
  sync(cursor: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const ref = ++syncs;
      this.#syncs.set(ref, { command: { type: "sync", cursor, ref }, isSynced: false, resolve, reject });
      if (this.#socket instanceof Stream) this.#again();
      else if (this.#isOpen) this.#send(this.#syncs.get(ref)!.command);
    });
  }

  /** Ends everything that it carries. */
  close(error?: RowcastError): void {
    // first: a caller that subscribes again when told of the end needs another connection
    this.#host.forget(this);
    this.#drop();
    if (this.#probe) this.#probe.onopen = this.#probe.onclose = null;
    this.#probe?.close();
    for (const subscription of this.#subscriptions.values()) subscription.end(error);
    const reason = error ?? new RowcastError("closed", "the client was closed");
    for (const { reject } of this.#syncs.values()) reject(reason);
    this.#syncs.clear();
  }

  get #isOpen(): boolean {
    return this.#socket?.readyState === OPEN;
  }

  async #connect(): Promise<void> {
    this.#drop();
    // the token's function may never answer
    this.#wait(TOKEN_WITHIN, () => this.#retry());
    const attempt = this.#attempt;
    const { base, token, WebSocket } = this.#host;
    try {
      const current = await (typeof token === "function" ? token() : token);
      if (attempt !== this.#attempt) return;
      const open = () => new WebSocket(base + "/ws?cuts=true", subprotocols(current));
      // a proxy may let no WebSocket through; but to neither a server answers that is away: every second time
      const isStream = this.#unopened > 1 && this.#unopened % 2 === 0 && typeof fetch === "function";
      const socket = isStream ? new Stream(base, current, this.#commands()) : open();
      this.#unopened++;
      this.#socket = socket;
      this.#wait(OPEN_WITHIN, () => this.#retry());
      socket.onopen = () => {
        this.#opened();
        if (isStream) this.#tryAgain(open);
      };
      socket.onmessage = ({ data }) => this.#received(data);
      socket.onclose = ({ code, reason }) => this.#closed(code, reason);
      socket.onerror = () => {}; // a close follows
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#tell(new RowcastError("no_socket", String(error), false));
      this.#retry();
    }
  }

  #opened(): void {
    this.#backoff.opened();
    this.#wait(PING_AFTER, () => this.#ping());
    // a stream that opens is the way until a WebSocket opens
    this.#unopened = this.#socket instanceof Stream ? 2 : 0;
    if (this.#unopened) return;
    for (const subscription of this.#subscriptions.values()) this.#join(subscription);
    this.#sendSyncs();
  }

  /** While a stream works: whether a WebSocket would by now, since the server may only have been away. Once a minute at most. */
  #tryAgain(open: () => Socket): void {
    if (Date.now() < this.#triedAt + 60_000) return;
    this.#triedAt = Date.now();
    const socket = (this.#probe = open());
    socket.onerror = () => {};
    socket.onclose = () => this.#tell(new RowcastError("no_websocket", "no WebSocket gets through: event streams do", false));
    socket.onopen = () => {
      socket.onclose = null;
      socket.close();
      this.#unopened = this.#triedAt = 0;
      if (this.#socket instanceof Stream) void this.#connect();
    };
  }

  /** All that a stream says. */
  #commands(): string {
    const commands: object[] = [];
    for (const subscription of this.#subscriptions.values()) commands.push(subscription.begin());
    for (const subscription of this.#subscriptions.values()) {
      if (!subscription.page) continue;
      this.#said.add(subscription.page);
      commands.push(subscription.pageCommand(subscription.page));
    }
    for (const { command, isSynced } of this.#syncs.values()) if (!isSynced) commands.push(command);
    return commands.map(toJson).join("\n");
  }

  #received(text: string): void {
    let message: Message;
    try {
      message = this.#host.parse(text);
    } catch {
      // what stands between has answered in the server's place
      this.#tell(new RowcastError("bad_frame", `no message of a server: ${String(text).slice(0, 80)}`, false));
      return this.#retry();
    }
    this.#heard(message);
  }

  #heard(message: Message): void {
    this.#wait(PING_AFTER, () => this.#ping());
    this.#isAsked = false;
    this.#patience = ANSWER_WITHIN;
    const id = subscriptionOf(message);
    if (message.type === "token_expiring") this.#expires(message.expires_in);
    else if (message.type === "synced") this.#synced(message.ref);
    else if (message.type === "error" && this.#syncs.has(message.ref as number)) this.#unsynced(message);
    // whichever command it was: there may be more
    else if (message.type === "error" && message.code === "rate_limited") this.#slowDown((message.retry_after ?? 1) * 1000);
    else if (message.type === "cut" && !message.channel) this.#cut();
    else if (id !== undefined) this.#deliver(id, message);
    else if (message.type === "error") this.#complained(message);
    this.#host.changed();
  }

  /** What all subscriptions were told is the database at one moment, once those that were shown before are live again. */
  #cut(): void {
    const all = [...this.#subscriptions.values()];
    const late = all.filter(({ isShown, isLive }) => isShown && !isLive);
    this.#isHeld = late.length > 0;
    this.#heldSince = this.#isHeld ? (this.#heldSince ?? performance.now()) : undefined;
    clearTimeout(this.#held);
    const rest = this.#isHeld ? this.#heldSince! + PATIENCE - performance.now() : 0;
    if (rest > 0) {
      this.#held = setTimeout(() => this.#cutAgain(), rest);
      return;
    }
    // those come back as new ones do
    for (const subscription of late) subscription.isShown = false;
    // all are shown before anybody is told of one
    for (const tell of all.map((subscription) => subscription.cut())) if (tell) call(tell);
    for (const [ref, { isSynced, resolve }] of this.#syncs) if (isSynced && this.#syncs.delete(ref)) resolve();
  }

  #sendSyncs(): void {
    for (const { command, isSynced } of this.#syncs.values()) if (!isSynced) this.#send(command);
  }

  #synced(ref: number): void {
    const sync = this.#syncs.get(ref);
    // what it waits for is shown at the cut that follows
    if (sync) sync.isSynced = true;
  }

  #unsynced({ code, message, ref, retry_after = 1 }: Complaint): void {
    if (code === "rate_limited" || code === "too_many_syncs") {
      clearTimeout(this.#slowSync);
      this.#slowSync = setTimeout(() => this.#sendSyncs(), retry_after * 1_000);
    } else {
      this.#syncs.get(ref as number)!.reject(new RowcastError(code, message, false));
      this.#syncs.delete(ref as number);
    }
  }

  /** One that was waited for is gone. */
  #cutAgain(): void {
    if (this.#isHeld) this.#cut();
    this.#host.changed();
  }

  #deliver(id: string, message: Message): void {
    const code = message.type === "error" ? message.code : undefined;
    if (code === "source_down") this.#isDown = true;
    const subscription = this.#subscriptions.get(id);
    if (this.#leaving.has(id)) {
      // refused before it was left, there was nothing to leave
      if (message.type !== "unsubscribed" && code !== "not_subscribed") return;
      this.#leaving.delete(id);
      if (subscription) this.#join(subscription);
    } else if (subscription && message.type === "error") {
      this.#refused(subscription, message);
    } else {
      // that one was left says nothing of the database
      if (!code) this.#isDown = false;
      // what is waited for is on its way, and patience begins anew
      if (subscription?.isShown && !subscription.isLive) this.#heldSince = undefined;
      subscription?.receive(message);
      // the next cut has begun, unless it is of one that shows nothing yet
      if (message.type !== "heartbeat" && subscription?.isLive) this.#isHeld = false;
    }
  }

  /** An error that names no channel. */
  #complained({ code, message }: Complaint): void {
    if (LOST.includes(code)) {
      // which one of several, the answers to the next commands say
      if (this.#subscriptions.size + this.#leaving.size > 1) this.#retry();
      else for (const subscription of this.#subscriptions.values()) this.#lost(subscription, code, message);
    } else {
      const isDown = code === "source_down";
      // this one comes once for each channel
      if (!isDown || !this.#isDown) this.#tell(new RowcastError(code, message, false));
      this.#isDown ||= isDown;
    }
  }

  #refused(subscription: Subscription, { code, message, ref }: Complaint): void {
    if (code === "too_many_subscriptions" && this.#subscriptions.size > 1) {
      this.#isFull = true;
      this.#subscriptions.delete(subscription.id);
      subscription.isShown = false;
      this.#host.place(subscription);
      this.#cutAgain();
    } else if (code === "source_down") {
      subscription.tell(new RowcastError(code, message, false));
    } else if (AGAIN.includes(code) && Array.isArray(ref)) {
      // of a page, which may have come by now: what it is a page of follows all the same
      this.#said.delete(subscription.page!);
      this.#slowDown(1_000);
    } else if (code !== "already_subscribed" && code !== "not_subscribed") {
      // those answer a command that #slowDown sent once more
      this.#lost(subscription, code, message);
    }
  }

  #lost(subscription: Subscription, code: string, text: string): void {
    // its table may be watched again, or is locked for the moment
    if (code !== "unanswered" && !(code === "unknown_channel" && subscription.wasLive)) {
      return subscription.end(new RowcastError(code, text));
    }
    // what it shows stays, and nobody waits for it
    subscription.isLive = subscription.isCurrent = subscription.isShown = subscription.isAnswered = false;
    subscription.tell(new RowcastError(code, text, false));
    clearTimeout(this.#absent);
    this.#absent = setTimeout(() => {
      for (const each of this.#subscriptions.values()) if (!each.isAnswered) this.#join(each);
    }, ABSENT);
    this.#cutAgain();
  }

  /** A command was one too many, and others may be: those without an answer are sent again, with pauses. */
  #slowDown(pause: number): void {
    const ids = [...this.#leaving.keys(), ...this.#subscriptions.keys()];
    const next = (): void => {
      const id = ids.shift();
      if (id === undefined) return;
      const subscription = this.#subscriptions.get(id);
      if (this.#leaving.has(id)) this.#sendLeave(id);
      else if (subscription && !subscription.isAnswered) this.#join(subscription);
      else if (subscription?.page && subscription.isLive) this.ask(subscription);
      else return next();
      this.#slow = setTimeout(next, pause);
    };
    clearTimeout(this.#slow);
    this.#slow = setTimeout(next, pause);
  }

  /** The token ends in so many seconds. */
  #expires(seconds: number): void {
    const { token } = this.#host;
    if (typeof token !== "function") return;
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => void this.#renew(token), renewIn(seconds));
  }

  /** Brings another token on the open socket. Where it cannot be had, 4401 is the end of this socket, not of more. */
  async #renew(ask: () => string | Promise<string>): Promise<void> {
    const attempt = this.#attempt;
    try {
      const token = await ask();
      if (attempt === this.#attempt) this.#send({ type: "auth", token });
    } catch (error) {
      if (attempt === this.#attempt) this.#tell(new RowcastError("unauthenticated", String(error), false));
    }
  }

  #closed(code: number, reason: string): void {
    const text = reason || `closed with ${code}`;
    const name = FINAL[code];
    if (code === 1006 && reason) this.#tell(new RowcastError("no_server", reason, false));
    // a channel is gone or a filter fits no longer: which one of several, the answers to the next commands say
    const all = [...this.#subscriptions.values()];
    const isPartial =
      (code === 4400 || code === 4404) && (all.length > 1 || (code === 4404 && all.some(({ wasLive }) => wasLive)));
    const isRenewable = code === 4401 && typeof this.#host.token === "function";
    if (isRenewable) this.#tell(new RowcastError("unauthenticated", text, false));
    if (name && !isPartial && !isRenewable) this.close(new RowcastError(name, text));
    else this.#retry();
  }

  #tell(error: RowcastError): void {
    for (const subscription of this.#subscriptions.values()) subscription.tell(error);
  }

  #join(subscription: Subscription): void {
    if (this.#socket instanceof Stream) return this.#again();
    if (!this.#isOpen || this.#leaving.has(subscription.id)) return;
    this.#send(subscription.begin());
  }

  #leave({ id, channel, view = "" }: Subscription): void {
    if (this.#socket instanceof Stream) return this.#again();
    if (!this.#isOpen || this.#leaving.has(id)) return;
    this.#leaving.set(id, { channel, view });
    this.#sendLeave(id);
  }

  #sendLeave(id: string): void {
    this.#send({ type: "unsubscribe", ...this.#leaving.get(id), ref: id });
  }

  #ping(): void {
    this.#isAsked = true;
    const socket = this.#socket;
    // to a stream nothing can be said: its heartbeats come after 25 to 50 s
    if (socket instanceof Stream) this.#wait(PING_AFTER, () => this.#silent());
    else {
      this.#send({ type: "ping" });
      this.#wait(this.#patience, () => this.#silent());
    }
  }

  /** Takes the socket for dead. The next one is given longer: it may have been in the middle of a long message. */
  #silent(): void {
    this.#patience *= 2;
    this.#retry();
  }

  #send(command: object): void {
    if (this.#socket instanceof Stream) this.#again();
    else this.#socket?.send(toJson(command));
  }

  /** A stream cannot be told more: another one takes its place, once this turn is over. */
  #again(): void {
    const attempt = this.#attempt;
    queueMicrotask(() => attempt === this.#attempt && void this.#connect());
  }

  #retry(): void {
    this.#drop();
    this.#wait(this.#backoff.next(), () => void this.#connect());
    for (const subscription of [...this.#subscriptions.values()]) subscription.lost();
  }

  #wait(time: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, time);
  }

  /** Ends the socket, and the attempt to get one. */
  #drop(): void {
    const timers = [this.#timer, this.#renewal, this.#slow, this.#slowSync, this.#absent, this.#held];
    for (const timer of timers) clearTimeout(timer);
    this.#attempt++;
    this.#leaving.clear();
    this.#said.clear();
    this.#isDown = this.#isHeld = this.#isAsked = false;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.#host.changed();
  }
}

/** A short name of a text. Two texts may have the same one. */
function digest(text: string): string {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return (hash >>> 0).toString(36);
}
