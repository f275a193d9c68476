import { Backoff } from "./backoff.js";
import { RowcastError } from "./error.js";
import { channelOf, type Complaint, type Message } from "./messages.js";
import type { Subscription } from "./subscription.js";
import { renewIn, subprotocols, type Token } from "./token.js";

/** Silence after which the server is asked whether it lives. Its heartbeats come after 25 to 50 s. */
export const PING_AFTER = 30_000;
/** A server that lives answers within this time. */
export const ANSWER_WITHIN = 5_000;
/** A socket that does not open within this time is given up. */
export const OPEN_WITHIN = 15_000;

const CONNECTING = 0;
const OPEN = 1;

/** Close codes that end the subscriptions, as codes of `RowcastError`. After any other one they resume. */
const FINAL: Record<number, string | undefined> = {
  4400: "bad_request",
  4401: "unauthenticated",
  4403: "forbidden",
  4404: "unknown_channel",
};

/** Errors after which the server no longer serves a channel that was fine until then. */
const LOST = ["unknown_channel", "bad_filter", "forbidden"];

/** How things stand, the best first. */
export const STATES = ["idle", "live", "source_down", "connecting"] as const;

/**
 * `idle`: nothing is subscribed. `live`: what is shown is current. `source_down`: the server is without its database.
 * `connecting`: there is no socket yet or no longer, or a subscription has not begun.
 */
export type State = (typeof STATES)[number];

/** The part of a `WebSocket` that is used; that of the package `ws` has it too. */
export interface Socket {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(): void;
}

/** Who holds the connections. */
export interface Host {
  /** where the paths of sockets begin, such as `wss://example.com` */
  readonly base: string;
  readonly token: Token | undefined;
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
  /** Channels that were left and not confirmed: what still comes for them is not for the next subscription. */
  readonly #leaving = new Set<string>();
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
  #isFull = false;
  #isDown = false;

  constructor(host: Host, first: Subscription) {
    this.#host = host;
    this.add(first);
    void this.#connect();
  }

  get state(): State {
    if (this.#isDown) return "source_down";
    if (!this.#isOpen) return "connecting";
    for (const { isLive } of this.#subscriptions.values()) if (!isLive) return "connecting";
    return "live";
  }

  /** Whether there is room for a subscription: a socket carries each channel once. */
  takes(subscription: Subscription): boolean {
    return !this.#isFull && !this.#subscriptions.has(subscription.channel);
  }

  add(subscription: Subscription): void {
    subscription.connection = this;
    this.#subscriptions.set(subscription.channel, subscription);
    this.#join(subscription);
  }

  remove(subscription: Subscription): void {
    this.#leave(subscription);
    this.#subscriptions.delete(subscription.channel);
    this.#host.changed();
    // whoever subscribes in its place before this turn ends finds the socket open
    queueMicrotask(() => {
      if (this.#subscriptions.size === 0) this.close();
    });
  }

  /** Begins a subscription anew, once the server has confirmed that it was left. */
  rejoin(subscription: Subscription): void {
    this.#leave(subscription);
  }

  /** The network may be back, or the machine awake: waits no longer, and trusts the open socket no longer. */
  wake(): void {
    if (this.#isOpen) this.#ping();
    else if (this.#socket?.readyState !== CONNECTING) void this.#connect();
  }

  /** Ends everything that it carries. */
  close(error?: RowcastError): void {
    // first: whoever subscribes again when told of the end needs another connection
    this.#host.forget(this);
    this.#drop();
    for (const subscription of this.#subscriptions.values()) subscription.end(error);
  }

  get #isOpen(): boolean {
    return this.#socket?.readyState === OPEN;
  }

  async #connect(): Promise<void> {
    this.#drop();
    const attempt = this.#attempt;
    const { base, token, WebSocket } = this.#host;
    try {
      const current = await (typeof token === "function" ? token() : token);
      if (attempt !== this.#attempt) return;
      const socket = new WebSocket(base + "/ws", subprotocols(current));
      this.#socket = socket;
      this.#wait(OPEN_WITHIN, () => this.#retry());
      socket.onopen = () => this.#opened();
      socket.onmessage = ({ data }) => this.#heard(JSON.parse(data));
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
    for (const subscription of this.#subscriptions.values()) this.#join(subscription);
  }

  #heard(message: Message): void {
    this.#wait(PING_AFTER, () => this.#ping());
    const channel = channelOf(message);
    if (message.type === "token_expiring") this.#expires(message.expires_in);
    // whichever command it was: there may be more
    else if (message.type === "error" && message.code === "rate_limited") this.#slowDown((message.retry_after ?? 1) * 1000);
    else if (channel !== undefined) this.#deliver(channel, message);
    else if (message.type === "error") this.#complained(message);
    this.#host.changed();
  }

  #deliver(channel: string, message: Message): void {
    const code = message.type === "error" ? message.code : undefined;
    if (!code) this.#isDown = false;
    else if (code === "source_down") this.#isDown = true;
    const subscription = this.#subscriptions.get(channel);
    if (this.#leaving.has(channel)) {
      // refused before it was left, there was nothing to leave
      if (message.type !== "unsubscribed" && code !== "not_subscribed") return;
      this.#leaving.delete(channel);
      if (subscription) this.#join(subscription);
    } else if (subscription && message.type === "error") {
      this.#refused(subscription, message);
    } else {
      subscription?.receive(message);
    }
  }

  /** An error that names no channel. */
  #complained({ code, message }: Complaint): void {
    if (LOST.includes(code)) {
      // which one of several, the answers to the next commands say
      if (this.#subscriptions.size + this.#leaving.size > 1) this.#retry();
      else for (const subscription of this.#subscriptions.values()) subscription.end(new RowcastError(code, message));
    } else {
      const isDown = code === "source_down";
      // this one comes once for each channel
      if (!isDown || !this.#isDown) this.#tell(new RowcastError(code, message, false));
      this.#isDown ||= isDown;
    }
  }

  #refused(subscription: Subscription, { code, message }: Complaint): void {
    if (code === "too_many_subscriptions" && this.#subscriptions.size > 1) {
      this.#isFull = true;
      this.#subscriptions.delete(subscription.channel);
      this.#host.place(subscription);
    } else if (code === "source_down") {
      subscription.tell(new RowcastError(code, message, false));
    } else if (code !== "already_subscribed" && code !== "not_subscribed") {
      // those answer a command that #slowDown sent once more
      subscription.end(new RowcastError(code, message));
    }
  }

  /** A command was one too many, and others may be: those without an answer are sent again, with pauses. */
  #slowDown(pause: number): void {
    const channels = [...this.#leaving, ...this.#subscriptions.keys()];
    const next = (): void => {
      const channel = channels.shift();
      if (channel === undefined) return;
      const subscription = this.#subscriptions.get(channel);
      if (this.#leaving.has(channel)) this.#sendLeave(channel);
      else if (subscription && !subscription.isAnswered) this.#join(subscription);
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
    const text = reason || `the server closed the socket with ${code}`;
    const name = FINAL[code];
    // a channel is gone or a filter fits no longer: which one of several, the answers to the next commands say
    const isPartial = (code === 4400 || code === 4404) && this.#subscriptions.size > 1;
    const isRenewable = code === 4401 && typeof this.#host.token === "function";
    if (isRenewable) this.#tell(new RowcastError("unauthenticated", text, false));
    if (name && !isPartial && !isRenewable) this.close(new RowcastError(name, text));
    else this.#retry();
  }

  #tell(error: RowcastError): void {
    for (const subscription of this.#subscriptions.values()) subscription.tell(error);
  }

  #join(subscription: Subscription): void {
    if (!this.#isOpen || this.#leaving.has(subscription.channel)) return;
    this.#send(subscription.begin());
  }

  #leave({ channel }: Subscription): void {
    if (!this.#isOpen || this.#leaving.has(channel)) return;
    this.#leaving.add(channel);
    this.#sendLeave(channel);
  }

  #sendLeave(channel: string): void {
    this.#send({ type: "unsubscribe", channel, ref: channel });
  }

  #ping(): void {
    this.#send({ type: "ping" });
    this.#wait(ANSWER_WITHIN, () => this.#retry());
  }

  #send(command: object): void {
    this.#socket?.send(JSON.stringify(command));
  }

  #retry(): void {
    this.#drop();
    this.#wait(this.#backoff.next(), () => void this.#connect());
  }

  #wait(time: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, time);
  }

  /** Ends the socket, and the attempt to get one. */
  #drop(): void {
    for (const timer of [this.#timer, this.#renewal, this.#slow]) clearTimeout(timer);
    this.#attempt++;
    this.#leaving.clear();
    this.#isDown = false;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.#host.changed();
  }
}
