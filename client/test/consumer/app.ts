/** A program that has installed the package, for its compiler. It has no library of a browser, and none of Node. */
import { connect, type Change, type Client, type Filter, type Notification, type Token } from "rowcast-client";
import { useCollection, useConnectionState, useInbox, useNotifications, useWindow } from "rowcast-client/react";
import { collectionStore, inboxStore, notificationStore, stateStore, windowStore, type InboxView, type View, type WindowView } from "rowcast-client/store";
import { SharedSocket, tabStorage } from "rowcast-client/tabs";

type Equal<One, Other> =
  (<T>() => T extends One ? 1 : 2) extends <T>() => T extends Other ? 1 : 2 ? true : false;
function same<One, Other>(_: Equal<One, Other>): void {}

interface Pet {
  pet_id: number;
  user_id: number;
  name: string;
}
type Named = Pick<Pet, "pet_id" | "name">;

declare const pet: Pet | undefined;
declare const user: string | undefined;
declare const text: string;
declare const signal: {
  aborted: boolean;
  addEventListener(event: "abort", listener: () => void): void;
  removeEventListener(event: "abort", listener: () => void): void;
};

const token: Token = async () => "…";
export const client = connect<{ pets: Pet; users: { user_id: number } }>({ href: "https://example.com" }, { token });
const key = "pet_id";

// a row has the columns that were asked for
const all = client.collection("pets", { key, signal });
same<(typeof all extends ReadonlyMap<string | number, infer Row> ? Row : never), Pet>(true);
const named = client.collection("pets", { key, columns: ["pet_id", "name"] });
same<ReturnType<typeof named.get>, Named | undefined>(true);
for (const [, row] of named) row.name.toUpperCase();
for (const row of named.values()) row.pet_id.toFixed();
// @ts-expect-error it was not asked for
named.get(1)?.user_id;
const columns = ["pet_id", "name"] as const;
same<ReturnType<ReturnType<typeof collectionStore<{ pets: Pet }, "pets">>["get"]>, View<Pet>>(true);
same<ReturnType<(typeof store)["get"]>, View<Named>>(true);
const store = collectionStore(client, "pets", { key, columns });
const hooked = useCollection(client, "pets", { key: (pet) => pet.name, columns: ["pet_id", "name"] });
same<typeof hooked, View<Named>>(true);
client.subscribe("pets", { columns: ["name"], old: true }, {
  change(change) {
    same<typeof change, Change<Pick<Pet, "name">>>(true);
    if (change.action === "updated") same<typeof change.changed, "name"[]>(true);
  },
  snapshot: (rows) => same<typeof rows, Pick<Pet, "name">[]>(true),
});
client.subscribe("pets", {}, { change: (change: Change<Pet>) => change.id });
for await (const { data } of client.subscribe("pets", { columns: ["name"] })) same<typeof data, Pick<Pet, "name"> | null>(true);

// @ts-expect-error there is no such column
client.collection("pets", { key, columns: ["pet_id", "nmae"] });
// @ts-expect-error
client.subscribe("pets", { columns: ["nmae"] });
// @ts-expect-error
collectionStore(client, "pets", { key, columns: ["pet_id", "nmae"] });
// @ts-expect-error
useCollection(client, "pets", { key, columns: ["pet_id", "nmae"] });
// @ts-expect-error the key was not asked for
client.collection("pets", { key, columns: ["name"] });
// @ts-expect-error there is no such channel
useCollection(client, "cats", { key });
// @ts-expect-error
client.collection("users", { key });

// a filter names a column and an operator
client.collection("pets", { key, filter: "user_id=in.(1,2)" });
client.collection("pets", { key, filter: `user_id=eq.${user}` });
client.subscribe("pets", { filter: ["name=ilike.l*", "user_id=is.not_null", `user_id=eq.${pet?.user_id}`] });
client.subscribe("pets", { filter: ["name=like.l*"] as const });
useCollection(client, "pets", { key, filter: pet && `user_id=eq.${pet.user_id}`, enabled: !!pet });
useCollection(client, "pets", { key, filter: user && `user_id=eq.${user}`, enabled: !!user, keepAlive: 0 });
collectionStore(client, "pets", { key, filter: pet ? [`user_id=eq.${pet.user_id}`, "name=neq.Rex"] : null });
const made: Filter<Pet> = `name=eq.${text}`;
client.subscribe("pets", { filter: [made, text as Filter<Pet>] });
// @ts-expect-error there is no such column
client.subscribe("pets", { filter: "nmae=eq.Rex" });
// @ts-expect-error
client.collection("pets", { key, filter: ["name=eq.Rex", "nmae=eq.Rex"] });
// @ts-expect-error there is no such operator
useCollection(client, "pets", { key, filter: "name=equals.Rex" });
// @ts-expect-error
collectionStore(client, "pets", { key, filter: `name==${text}` });
// @ts-expect-error it may be any text
client.subscribe("pets", { filter: text });

// where the rows have no types, everything goes
const loose = connect("/");
const cats = loose.collection("cats", { key: "id", filter: text, columns: ["id", text] });
same<ReturnType<typeof cats.get>, any>(true);
loose.subscribe("cats", { filter: [text], columns: [text] }, { change: ({ data }) => data.anything });
useCollection(loose, "cats", { key: ["a", "b"], filter: text, columns: text.split(",") }).rows[0].anything;
const partly = connect<{ pets: Pet; [other: string]: any }>("/");
partly.collection("pets", { key, columns: ["pet_id"] });
partly.collection("cats", { key: "id", filter: text });

// a program's own functions over channels
function byKey<Channels extends object, Name extends keyof Channels & string>(
  client: Client<Channels>,
  channel: Name,
  key: keyof Channels[Name] & string,
): View<Channels[Name]> {
  return useCollection(client, channel, { key });
}
same<ReturnType<typeof byKey<{ pets: Pet }, "pets">>, View<Pet>>(true);

// the first rows in an order
const newest = client.window("pets", { key, order: "user_id.desc", limit: 50, count: true, columns: ["pet_id", "name", "user_id"] });
same<(typeof newest)["rows"], readonly Pet[]>(true);
newest.loadMore(20).then(() => newest.hasMore && newest.isLoading);
same<ReturnType<typeof useWindow<{ pets: Pet }, "pets">>, WindowView<Pet>>(true);
useWindow(client, "pets", { key, order: ["name", "pet_id.desc.nullslast"], filter: pet && `user_id=eq.${pet.user_id}` }).loadMore();
same<(typeof rows)["rows"], readonly Named[]>(true);
const rows = windowStore(client, "pets", { key, columns, order: "name", enabled: !!pet }).get();
client.window("pets", { key, filter: ["user_id=not.in.(1,2)", "or=(name.eq.Rex,not.and(user_id.gt.1,name.is.null))"] });
// @ts-expect-error there is no such column
client.window("pets", { key, order: "nmae" });
// @ts-expect-error
useWindow(client, "pets", { key, order: ["name", "nmae.desc"] });
loose.window("cats", { key: "id", order: text });

// a user's messages; a client that knows no channel `inbox` names its own
const letters = useInbox(client, user, { channel: "pets", key, readColumn: "name", order: "name.desc", limit: 50, enabled: !!user });
same<typeof letters, InboxView<Pet>>(true);
letters.loadMore(letters.unread);
const mail = connect<{ inbox: Pet; pets: Pet }>("/");
same<ReturnType<typeof useInbox<{ inbox: Pet; pets: Pet }>>, InboxView<Pet>>(true);
inboxStore(mail, pet?.user_id, { userColumn: false }).subscribe(({ messages }) => messages[0]?.name);
inboxStore(loose, "7", { readColumn: text }).get().messages[0].anything;
// @ts-expect-error there is no such column
useInbox(client, 7, { channel: "pets", key: "inbox_id" });

const bell = useNotifications<{ pet_name: string }>(client, pet?.user_id, { limit: 20, since: "1A", enabled: !!pet });
same<(typeof bell)["notifications"], readonly Notification<{ pet_name: string }>[]>(true);
bell.clear();
notificationStore(client, 1).subscribe(({ notifications }) => notifications.length);
same<ReturnType<typeof useConnectionState>, "idle" | "live" | "source_down" | "connecting">(true);
useConnectionState(client, { delay: 500 });
stateStore(client).get();

connect("/", { WebSocket: SharedSocket, storage: tabStorage(pet?.user_id) });
