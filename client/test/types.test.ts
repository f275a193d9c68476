import { expectTypeOf, test } from "vitest";
import { connect, type Change, type RowcastError, type State } from "../src/index.js";
import { useCollection, useInbox, useWindow } from "../src/react.js";
import { collectionStore, inboxStore } from "../src/store.js";

interface Pet {
  pet_id: number;
  name: string;
}

/** Looked at by the compiler, never run. */
function typed(): void {
  const client = connect<{ pets: Pet; users: { user_id: number } }>("/");

  client.subscribe("pets", { snapshot: true }, {
    change(change) {
      expectTypeOf(change).toEqualTypeOf<Change<Pet>>();
      if (change.action === "truncated") expectTypeOf(change.data).toEqualTypeOf<null>();
      else expectTypeOf(change.data).toEqualTypeOf<Pet>();
      if (change.action === "updated") expectTypeOf(change.changed).toEqualTypeOf<("pet_id" | "name")[]>();
    },
    snapshot: (rows) => expectTypeOf(rows).toEqualTypeOf<Pet[]>(),
    error: (error) => expectTypeOf(error).toEqualTypeOf<RowcastError>(),
  });
  // @ts-expect-error there is no such channel
  client.subscribe("cats");

  const pets = client.collection("pets", { key: "pet_id" });
  expectTypeOf(pets.get(1)).toEqualTypeOf<Pet | undefined>();
  expectTypeOf(pets).toExtend<ReadonlyMap<string | number, Pet>>();
  pets.on("change", ({ set }) => expectTypeOf(set.get(1)).toEqualTypeOf<Pet | undefined>());
  // @ts-expect-error no column of users
  client.collection("users", { key: "pet_id" });

  client.notifications<{ pet_name: string }>(1, {}, {
    change: ({ data }) => expectTypeOf(data.pet_name).toEqualTypeOf<string>(),
  });

  expectTypeOf(useCollection(client, "pets", { key: ["pet_id"] }).rows).toEqualTypeOf<readonly Pet[]>();
  expectTypeOf(collectionStore(client, "pets", { key: "pet_id" }).get().rows).toEqualTypeOf<readonly Pet[]>();

  const window = client.window("pets", { key: "pet_id", order: ["name.desc", "pet_id"], filter: "or=(name.eq.Rex,pet_id.gt.3)" });
  expectTypeOf(window.rows).toEqualTypeOf<readonly Pet[]>();
  window.on("change", ({ set }) => expectTypeOf(set.get(1)).toEqualTypeOf<Pet | undefined>());
  // @ts-expect-error no column of pets
  client.window("pets", { key: "pet_id", order: "nmae.desc" });
  expectTypeOf(useWindow(client, "pets", { key: "pet_id", columns: ["pet_id"] }).rows).toEqualTypeOf<readonly Pick<Pet, "pet_id">[]>();

  const mail = connect<{ inbox: Pet & { read_at: string | null }; pets: Pet }>("/");
  expectTypeOf(useInbox(mail, 7, { limit: 50 }).messages[0]!.read_at).toEqualTypeOf<string | null>();
  expectTypeOf(inboxStore(mail, null).get().unread).toEqualTypeOf<number>();
  expectTypeOf(useInbox(mail, "7", { channel: "pets", key: "pet_id", userColumn: false, readColumn: "name" }).messages).toEqualTypeOf<readonly Pet[]>();
  // @ts-expect-error no column of pets
  useInbox(mail, 7, { channel: "pets", readColumn: "read_at" });
  // @ts-expect-error there is no such channel
  useInbox(mail, 7, { channel: "cats" });
  expectTypeOf(useInbox(client, 7).messages).toEqualTypeOf<readonly never[]>();
  expectTypeOf(useInbox(connect("/"), 7, { key: "id" }).messages).toEqualTypeOf<readonly any[]>();

  client.on("state", (state) => expectTypeOf(state).toEqualTypeOf<State>());

  // without types everything goes
  connect("https://example.com").subscribe("cats", {}, { change: ({ data }) => expectTypeOf(data).toBeAny() });
}

test("channels have types", () => {
  expectTypeOf(typed).toBeFunction();
});
