import { idOf, subscriptionOf, type Complaint, type Message, type PageRef } from "./messages.js";
import { hold, onLeave, post, type Call, type Post, type ToLeader, type ToMember } from "./post.js";
import { renamed, Route, subscribed, type Reader, type Said } from "./route.js";

interface Command {
  type: string;
  channel?: string;
  view?: string;
  ref?: unknown;
  since?: string;
}

/** Close codes that speak of what a socket has subscribed to. */
const OF_SUBSCRIPTIONS = [4400, 4403, 4404];
/** The `ref` of a command with a token. Those of subscriptions are texts. */
const OF_TOKEN = 0;
/** A server that says nothing for so long, where it owes a word, is gone: as long as a client waits for its socket to open. */
const SILENCE = 15_000;
/** After one that was given up the next one is given longer: it may have been in the middle of a long message. */
let silence = SILENCE;
/** Characters of a view's name. */
const LONGEST = 32;
const NOT_SUBSCRIBED: Message = { type: "error", code: "not_subscribed", message: "it was not subscribed to", ref: "" };

interface Member {
  post: Post<ToMember>;
  forget: () => void;
}

/**
 * The one real socket, and the members whose commands and messages it carries. Owns which member a message is for: each
 * member's subscriptions have views of their own on the socket.
 */
export class Leader {
  /** Settles when it leads no longer. */
  readonly ended: Promise<void>;

  readonly #id = crypto.randomUUID();
  /** the member with whose token the socket was opened */
  readonly #first: string;
  readonly #socket: WebSocket;
  readonly #all: Post<Call>;
  readonly #inbox: Post<never>;
  readonly #forgetPage: () => void;
  readonly #members = new Map<string, Member>();
  /** by their names on the socket */
  readonly #routes = new Map<string, Route>();
  /** those that were told something since the last cut */
  readonly #told = new Set<string>();
  /** commands with another token, the first one on its way; none is wanted where there is no list */
  #tokens: { member: string; text: string }[] | undefined;
  /** those that asked whether the server lives, in the order of its answers */
  readonly #asking: string[] = [];
  /** what was asked for again before the server had confirmed that it was left */
  #late: { member: string; command: Command }[] = [];
  /** the server is given up after it */
  #patience: ReturnType<typeof setTimeout> | undefined;
  #isHeard = false;
  #isEnded = false;
  #settle!: () => void;

  constructor(group: string, socket: WebSocket, first: string) {
    this.#first = first;
    this.ended = new Promise((resolve) => (this.#settle = resolve));
    this.#socket = socket;
    socket.onopen = () => {
      this.#trust();
      for (const id of this.#members.keys()) this.#greet(id);
    };
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#inbox = post<never, ToLeader>(this.#id, (message) => this.#heard(message));
    this.#all = post<Call, Call>(group, ({ kind, from }) => kind === "hello" && this.#add(from));
    this.#forgetPage = onLeave(() => this.end(1001, "the tab with the socket goes away"));
    this.#all.post({ kind: "led", from: this.#id });
    this.#doubt();
    this.#add(first);
  }

  /** Leads no longer, and tells its members. */
  end(code: number, reason: string): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#trust();
    this.#socket.onclose = this.#socket.onmessage = this.#socket.onopen = null;
    this.#socket.close();
    this.#forgetPage();
    for (const id of [...this.#members.keys()]) this.#dismiss(id, code, reason);
    for (const { close } of [this.#all, this.#inbox]) close();
    this.#settle();
  }

  #add(id: string): void {
    if (!this.#members.has(id)) {
      // it is granted when the member is gone
      const forget = hold(id, () => this.#remove(id));
      this.#members.set(id, { post: post<ToMember>(id), forget });
    }
    this.#greet(id);
    // the socket may be dead, and those that have it may not have asked yet
    if (this.#socket.readyState === WebSocket.OPEN) this.#ask("");
  }

  /** Whether the server lives; the answer is for a member, or for this alone. */
  #ask(member: string): void {
    this.#asking.push(member);
    this.#send({ type: "ping" });
    this.#doubt();
  }

  /** The server owes a word. */
  #doubt(): void {
    this.#patience ??= setTimeout(() => {
      silence *= 2;
      this.end(1006, "");
    }, silence);
  }

  #trust(): void {
    clearTimeout(this.#patience);
    this.#patience = undefined;
  }

  #greet(id: string): void {
    this.#tell(id, { kind: "here", from: this.#id, isOpen: this.#socket.readyState === WebSocket.OPEN });
  }

  #dismiss(id: string, code: number, reason: string, isFull = false): void {
    this.#tell(id, { kind: "closed", from: this.#id, code, reason, isFull });
    this.#remove(id);
  }

  #remove(id: string): void {
    const member = this.#members.get(id);
    if (!member) return;
    this.#members.delete(id);
    this.#told.delete(id);
    member.forget();
    member.post.close();
    if (this.#isEnded) return;
    for (const route of this.#routes.values()) {
      if (route.remove(id) && route.all.length === 0 && !route.isLeft) this.#leave(route);
    }
    if (this.#members.size === 0) this.end(1006, "");
  }

  #heard(message: ToLeader): void {
    if (!this.#members.has(message.from)) return;
    if (message.kind === "check") this.#greet(message.from);
    else if (message.kind === "dead") this.end(1006, "");
    else this.#obey(message.from, message.text);
  }

  #obey(member: string, text: string): void {
    const command: Command = JSON.parse(text);
    if (command.type === "subscribe") this.#subscribe(member, command);
    else if (command.type === "unsubscribe") this.#unsubscribe(member, command);
    else if (command.type === "sync") this.#send({ ...command, ref: [member, command.ref] });
    else if (command.type === "rows") this.#page(member, command);
    else if (command.type === "auth") this.#renew(member, text);
    else if (command.type === "ping") this.#ask(member);
    else this.#socket.send(text);
  }

  #subscribe(member: string, command: Command): void {
    const { channel = "", view, ref, since } = command;
    const reader: Reader = { member, channel, view, ref };
    const known = this.#routeOf(member, command) ?? (isUsers(channel) ? this.#routes.get(channel) : undefined);
    if (known?.isLeft) {
      this.#late.push({ member, command });
    } else if (known && !known.all.some((each) => each.member === member)) {
      const missed = known.join(reader, since);
      if (!missed) this.#dismiss(member, 1006, "", true);
      else for (const said of missed) this.#forward(reader, said, known);
    } else {
      const route = known ?? this.#open(reader, since);
      this.#send({ ...command, view: route.view, ref: route.id });
    }
  }

  /** Makes a route with a name that is free. The first tab's are its own, so sockets of many users are told the same frames. */
  #open(reader: Reader, since: string | undefined): Route {
    const { channel, view = "" } = reader;
    let named = reader.view;
    for (let n = 1; this.#routes.has(idOf(channel, named)); n++) named = `${view}_${n}`.slice(-LONGEST);
    const route = new Route(channel, named, since);
    route.readers.push(reader);
    this.#routes.set(route.id, route);
    return route;
  }

  #unsubscribe(member: string, command: Command): void {
    const { channel = "", ref } = command;
    const route = this.#routeOf(member, command);
    const reader = route?.all.find((each) => each.member === member);
    if (!route || !reader) {
      this.#forward({ member, channel, view: undefined, ref }, { message: NOT_SUBSCRIBED });
    } else if (route.all.length > 1) {
      route.remove(member);
      this.#forward(reader, { message: { type: "unsubscribed", channel } });
    } else {
      this.#leave(route);
    }
  }

  /** A page of what a member's subscription follows. */
  #page(member: string, command: Command): void {
    const route = this.#routeOf(member, command);
    const [, n] = command.ref as PageRef;
    if (route && !route.isLeft) this.#send({ ...command, view: route.view, ref: [route.id, n] });
  }

  #leave(route: Route): void {
    route.isLeft = true;
    this.#send({ type: "unsubscribe", channel: route.channel, view: route.view ?? "", ref: route.id });
  }

  /** The route of a member's subscription, by the names that it gave. */
  #routeOf(member: string, { channel, view }: Command): Route | undefined {
    for (const route of this.#routes.values()) {
      if (route.channel !== channel) continue;
      for (const each of route.all) if (each.member === member && (each.view || "") === (view || "")) return route;
    }
    return undefined;
  }

  /** The first token does for all, as all say the same. The next one is tried where it is not believed. */
  #renew(member: string, text: string): void {
    if (this.#tokens?.push({ member, text }) === 1) this.#sendToken();
  }

  #sendToken(): void {
    const [next] = this.#tokens ?? [];
    if (next) this.#send({ ...JSON.parse(next.text), ref: OF_TOKEN });
  }

  #received(text: string): void {
    let message: Message;
    try {
      message = JSON.parse(text);
    } catch {
      // it is no message of a server: each client says so
      for (const id of this.#members.keys()) this.#say(id, text);
      return;
    }
    this.#isHeard = true;
    silence = SILENCE;
    this.#trust();
    // each member counts its own
    const [member = "", ref] = Array.isArray((message as Complaint).ref) ? (message as { ref: [string, unknown] }).ref : [];
    if (this.#members.has(member)) {
      this.#told.add(member);
      return this.#say(member, JSON.stringify({ ...message, ref }));
    }
    const id = subscriptionOf(message);
    const route = id === undefined ? undefined : this.#routes.get(id);
    if (route) this.#pass(route, { message, text });
    else if (message.type === "cut" && !message.channel) this.#cut(text);
    else if (message.type === "pong") this.#say(this.#asking.shift(), text);
    else if (message.type === "authenticated") this.#tokens = undefined;
    else if (message.type === "error" && (message.ref as unknown) === OF_TOKEN) this.#refusedToken(message);
    else if (id === undefined) this.#announce(message, text);
  }

  #announce(message: Message, text: string): void {
    if (message.type === "token_expiring") this.#tokens = [];
    for (const id of this.#members.keys()) this.#say(id, text);
  }

  #pass(route: Route, said: Said): void {
    const { message } = said;
    const code = message.type === "error" ? message.code : undefined;
    const joined = isUsers(route.channel) ? route.keep(said) : [];
    // a socket that is full is told by going to another one: of the error itself the only subscription of a tab would end. One that
    // is alone has all that a socket may have: its client parts them
    const isTooMany = code === "too_many_subscriptions";
    const isFull = isTooMany && this.#members.size > 1;
    for (const reader of isFull ? [] : code ? route.all : route.readers) {
      const isNew = joined.includes(reader) && message.type === "subscribed";
      this.#forward(reader, isNew ? { message: subscribed(route.channel, message.cursor, false, 0) } : said, route);
    }
    if (isTooMany) {
      this.#routes.delete(route.id);
      if (isFull) for (const { member } of route.all) this.#dismiss(member, 1006, "", true);
    } else if (code === "rate_limited" && route.isLeft && route.all.length === 0) {
      setTimeout(() => this.#leave(route), ((message as Complaint).retry_after ?? 1) * 1_000);
    } else if (message.type === "unsubscribed" || code === "not_subscribed") {
      this.#routes.delete(route.id);
      const late = this.#late.filter(({ command }) => command.channel === route.channel);
      this.#late = this.#late.filter((each) => !late.includes(each));
      for (const { member, command } of late) if (this.#members.has(member)) this.#subscribe(member, command);
    }
  }

  /** A member that was told nothing since the last cut shows the same as then. */
  #cut(text: string): void {
    for (const id of this.#told) this.#say(id, text);
    this.#told.clear();
  }

  #refusedToken(complaint: Complaint): void {
    const { member } = this.#tokens?.shift() ?? {};
    this.#say(member, JSON.stringify({ ...complaint, ref: undefined }));
    this.#sendToken();
  }

  #forward({ member, view, ref }: Reader, { message, text }: Said, route?: Route): void {
    this.#told.add(member);
    // of a page the number is asked for alone, and its rows keep their digits
    const isAnswer = "ref" in message && message.type !== "rows";
    const same = text !== undefined && !isAnswer ? renamed(text, route?.view, view) : undefined;
    const asked = (message as Complaint).ref;
    const own = Array.isArray(asked) ? [ref, asked[1]] : ref;
    this.#say(member, same ?? JSON.stringify({ ...message, view, ref: "ref" in message ? own : undefined }));
  }

  #closed(code: number, reason: string): void {
    // it was the token of the tab that opened it: the others come back with theirs
    if (code === 4401) for (const id of [...this.#members.keys()]) if (id !== this.#first) this.#dismiss(id, 1006, "");
    // whose subscription it was, the answers to the next commands say
    const isOfOne = this.#isHeard && this.#members.size > 1 && OF_SUBSCRIPTIONS.includes(code);
    this.end(isOfOne ? 1006 : code, isOfOne ? "" : reason);
  }

  #send(command: object): void {
    if (!this.#isEnded) this.#socket.send(JSON.stringify(command));
  }

  #say(id: string | undefined, text: string): void {
    if (id !== undefined) this.#tell(id, { kind: "message", from: this.#id, text });
  }

  #tell(id: string, message: ToMember): void {
    this.#members.get(id)?.post.post(message);
  }
}

function isUsers(channel: string): boolean {
  return channel.startsWith("user/");
}
