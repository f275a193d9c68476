/** A program that has TanStack DB too, for a compiler that knows its types. */
import { createCollection, createLiveQueryCollection, eq } from "@tanstack/db";
import { connect } from "rowcast-client";
import { invalidate } from "rowcast-client/query";
import { rowcastCollectionOptions } from "rowcast-client/tanstack";

interface Pet {
  pet_id: number;
  owner_id: number;
  name: string;
}
const client = connect<{ pets: Pet; owners: { owner_id: number; name: string } }>("https://example.com");
const pets = createCollection(
  rowcastCollectionOptions(client, "pets", {
    key: "pet_id",
    filter: "owner_id=gt.3",
    syncMode: "on-demand",
    onInsert: async ({ transaction, collection }) => {
      const { name } = transaction.mutations[0].modified;
      await collection.utils.awaitTxId(name);
    },
  }),
);
const name: string | undefined = pets.get(1)?.name;
pets.update(1, (draft) => void (draft.name = name ?? ""));
await pets.utils.awaitCursor("1A");
await pets.utils.awaitTxId(7421n, 1_000);
const owners = createCollection(rowcastCollectionOptions(client, "owners", { key: "owner_id", columns: ["owner_id", "name"] }));
const joined = createLiveQueryCollection((q) =>
  q.from({ pet: pets }).join({ owner: owners }, ({ pet, owner }) => eq(pet.owner_id, owner.owner_id), "inner").select(({ pet, owner }) => ({ pet: pet.name, owner: owner.name })),
);
joined.toArray.map((row): string => row.pet + row.owner);
// @ts-expect-error there is no such channel
rowcastCollectionOptions(client, "cats", { key: "id" });
// @ts-expect-error there is no such column
rowcastCollectionOptions(client, "pets", { key: "nmae" });

const stop = invalidate(client, { pets: ["pets"], owners: (change) => [["owner", change?.data?.owner_id]] }, (queryKey) => console.log(queryKey));
stop();
// @ts-expect-error there is no such channel
invalidate(client, { cats: ["cats"] }, () => {});
