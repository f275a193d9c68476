/** Against a real server that checks tokens. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client, type Collection, type RowcastError } from "../src/index.js";
import { jwt, SECRET } from "./jwt.js";
import type { Pet } from "./pages/pet.js";
import { Queue } from "./queue.js";
import { missing, Server } from "./server.js";
import { describeWhere } from "./where.js";

/** An owner sees the own rows, a vet all of them. */
const OWN = "select rowcast.allow('pets', 'owner', 'user_id=eq.{sub}')";
const VET =
  "select rowcast.watch('public.pets', user_rule => 'user_id'); " +
  "select rowcast.allow('pets', 'vet'), rowcast.allow('user/*', 'vet')";
const SETTINGS = { ...SECRET, ROWCAST_JWT_LEEWAY_SECONDS: "0", ROWCAST_COMMANDS_PER_SECOND: "20" };

describeWhere(missing(), "a real server that checks tokens", () => {
  let server: Server;
  let client: Client<{ pets: Pet }>;
  /** the sockets that the client has opened */
  let sockets: WebSocket[];

  beforeAll(async () => {
    server = await Server.start({ watch: VET, env: SETTINGS });
  });
  afterAll(() => server?.stop());

  beforeEach(async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.02); // short pauses
    server.sql(OWN);
    await server.refill(9, jwt({ role: "vet" }));
    sockets = [];
  });
  afterEach(() => client.close());

  function open(token: string | (() => string)): typeof client {
    class Observed extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        sockets.push(this);
      }
    }
    return (client = connect(server.url, { WebSocket: Observed, token }));
  }

  const keysOf = (pets: Collection<Pet>) => [...pets.keys()].sort();

  /** Waits until a collection has these rows and no others. */
  async function untilKeys(pets: Collection<Pet>, ...keys: number[]): Promise<void> {
    await expect.poll(() => keysOf(pets)).toEqual(keys);
  }

  /** A subscription to pets, the ids of its changes and its errors. */
  function listen() {
    const ids: number[] = [];
    const errors = new Queue<RowcastError>();
    const change = ({ id }: { id: number }) => void ids.push(id);
    const subscription = client.subscribe(
      "pets",
      {},
      { change, error: (error) => errors.push(error), resync: (reason) => expect.unreachable(reason) },
    );
    return { subscription, ids, errors };
  }

  test("a token that expires is renewed on the same socket, and no change is missing", async () => {
    let asked = 0;
    open(() => jwt({ sub: "5", role: "vet", exp: Math.ceil(Date.now() / 1000) + (asked++ ? 600 : 8) }));
    const { subscription, ids } = listen();
    await subscription.ready;
    const before = server.changesAfter(0).at(-1)!;
    const ends = Date.now() + 10_000; // beyond the end of the first
    while (Date.now() < ends) {
      server.mark();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await expect.poll(() => ids.filter((id) => id > before)).toEqual(server.changesAfter(before));
    expect([asked, sockets.length]).toEqual([2, 1]);
  });

  test("the next token may show other rows", async () => {
    let role = "owner";
    open(() => jwt({ sub: "1", role }, 8));
    const pets = client.collection("pets", { key: "pet_id" });
    await pets.ready;
    expect(keysOf(pets)).toEqual([1, 4, 7]);
    role = "vet";
    await untilKeys(pets, 1, 2, 3, 4, 5, 6, 7, 8, 9);
    expect(sockets).toHaveLength(1);
  });

  test("without a token, or with one that is not believed, nothing is seen", async () => {
    open("").subscribe("pets");
    await expect(client.subscribe("pets").ready).rejects.toMatchObject({ code: "forbidden" });
    client.close();
    open(`${jwt({ role: "vet" })}x`);
    await expect(client.subscribe("pets").ready).rejects.toMatchObject({ code: "unauthenticated", final: true });
  });

  test("a user who was revoked is out, and with a later token in again", async () => {
    const iat = Date.now() / 1000;
    let token = jwt({ sub: "5", role: "vet", iat });
    open(() => token);
    const { subscription, ids, errors } = listen();
    await subscription.ready;
    const before = server.changesAfter(0).at(-1)!;
    server.mark();
    server.sql("select rowcast.revoke('5')");
    for (const text of [/revoked/, /revoked/]) {
      expect(await errors.next()).toMatchObject({ code: "unauthenticated", final: false, message: text });
    }
    server.mark();
    token = jwt({ sub: "5", role: "vet" });
    await expect.poll(() => ids.filter((id) => id > before)).toEqual(server.changesAfter(before));
  });

  test("a user who was revoked and has one token only is out for good", async () => {
    open(jwt({ sub: "6", role: "vet" }));
    const { subscription, errors } = listen();
    await subscription.ready;
    server.sql("select rowcast.revoke('6')");
    expect(await errors.next()).toMatchObject({ code: "unauthenticated", final: true });
    expect(client.state).toBe("idle");
  });

  test("a policy that changes under an open collection: the rows follow", async () => {
    open(jwt({ sub: "1", role: "owner" }));
    const pets = client.collection("pets", { key: "pet_id" });
    await pets.ready;
    expect(keysOf(pets)).toEqual([1, 4, 7]);
    server.sql("select rowcast.allow('pets', 'owner', 'pet_id=gt.6')");
    await untilKeys(pets, 7, 8, 9);
    server.sql("select rowcast.allow('pets', 'owner', null, '{pet_id}')");
    await untilKeys(pets, 1, 2, 3, 4, 5, 6, 7, 8, 9);
    expect(pets.get(1)).toEqual({ pet_id: 1 });
    server.sql(`${OWN}; delete from pets where pet_id = 4`);
    await untilKeys(pets, 1, 7);
    expect(pets.get(1)).toEqual({ pet_id: 1, user_id: 1, name: "pet 1" });
    expect(sockets).toHaveLength(1);
  });

  test("a policy that is taken back ends the subscription and no other", async () => {
    open(jwt({ sub: "1", role: "owner" }));
    const told = new Queue<string>();
    const notifications = client.notifications(1, {}, { change: ({ data }) => told.push(data.name) });
    const pets = client.collection("pets", { key: "pet_id" });
    const refused = new Promise<RowcastError>((resolve) => pets.on("error", resolve));
    await Promise.all([pets.ready, notifications.ready]);
    server.sql("select rowcast.deny('pets', 'owner')");
    expect(await refused).toMatchObject({ code: "forbidden", final: true });
    // of its rows the user hears no more, by no way
    server.sql("insert into pets values (10, 1, 'Rex')");
    server.sql(`select rowcast.notify('1', 'hello', '{"name": "Luna"}')`);
    expect(await told.next()).toBe("Luna");
    expect(keysOf(pets)).toEqual([1, 4, 7]);
  });

  test("more subscriptions than the server takes at once all begin", async () => {
    open(jwt({ role: "vet" }));
    await Promise.all(Array.from({ length: 50 }, (_, user) => client.notifications(user).ready));
    expect(client.state).toBe("live");
    expect(sockets).toHaveLength(1);
  });

  test("the only subscription ends where its policy is taken back", async () => {
    open(jwt({ sub: "1", role: "owner" }));
    const { subscription, errors } = listen();
    await subscription.ready;
    server.sql("select rowcast.deny('pets', 'owner')");
    expect(await errors.next()).toMatchObject({ code: "forbidden", final: true });
    expect(sockets).toHaveLength(1);
  });
});
