import { expect, test } from "vitest";
import { Collection, type CollectionOptions, type Difference } from "../src/collection.js";
import { RowcastError } from "../src/error.js";
import type { Handlers, Subscription } from "../src/subscription.js";

interface Pet {
  id: number;
  name?: string;
  clinic?: string;
}

/** A collection whose subscription is this test, and its events. */
function stage(options: CollectionOptions<Pet> = { key: "id" }) {
  let told!: Handlers<any, Pet>;
  const ready = Promise.resolve({});
  let wishes!: object;
  const collection = new Collection<Pet>(options, (asked, handlers) => {
    told = handlers;
    wishes = asked;
    return { ready, close() {} } as unknown as Subscription<any, Pet>;
  });
  const events: Difference<Pet>[] = [];
  collection.on("change", (event) => events.push(event));
  const change = (action: string, data: Pet | null, more: object = {}) =>
    told.change!({ tx: "1", action, data, ...more });
  /** the end of a cut, at which the collection shows what came and then tells of it */
  const cut = () => told.cut!()();
  const tell = { change, snapshot: (...rows: Pet[]) => told.snapshot!(rows), cut };
  return { collection, events, ...tell, options: () => wishes, fail: () => told.error!(new RowcastError("forbidden", "no longer")) };
}

test("rows follow the changes", () => {
  const { collection, change, snapshot, cut } = stage();
  snapshot({ id: 1, name: "Luna" }, { id: 2, name: "Rex" });
  change("created", { id: 3, name: "Mia" });
  change("updated", { id: 1, name: "Lune" });
  change("deleted", { id: 2, name: "Rex" });
  expect(collection.size).toBe(0);
  cut();
  expect([...collection]).toEqual([[1, { id: 1, name: "Lune" }], [3, { id: 3, name: "Mia" }]]);
  change("entered", { id: 4 });
  change("left", { id: 3 });
  change("price", { id: 9 });
  cut();
  expect([...collection.keys()]).toEqual([1, 4]);
  change("truncated", null);
  cut();
  expect(collection.size).toBe(0);
});

test("a row whose key changed moves", () => {
  const { collection, change, snapshot, cut } = stage();
  snapshot({ id: 1, name: "Luna" });
  change("updated", { id: 7, name: "Luna" }, { old: { id: 1 } });
  cut();
  expect([...collection]).toEqual([[7, { id: 7, name: "Luna" }]]);
});

test("keys that pass through each other within a transaction keep every row", () => {
  const { collection, change, snapshot, cut } = stage();
  snapshot({ id: 1, name: "a" }, { id: 2, name: "b" }, { id: 3, name: "c" });
  change("updated", { id: 2, name: "a" }, { old: { id: 1 } });
  change("updated", { id: 3, name: "b" }, { old: { id: 2 } });
  change("updated", { id: 4, name: "c" }, { old: { id: 3 } });
  cut();
  expect(Object.fromEntries(collection)).toMatchObject({ 2: { name: "a" }, 3: { name: "b" }, 4: { name: "c" } });
  expect(collection.size).toBe(3);
  // swapped
  change("updated", { id: 3, name: "a" }, { old: { id: 2 }, tx: "2" });
  change("updated", { id: 2, name: "b" }, { old: { id: 3 }, tx: "2" });
  cut();
  expect([collection.get(2)!.name, collection.get(3)!.name]).toEqual(["b", "a"]);
  // replaced, the new one first
  change("created", { id: 4, name: "d" }, { tx: "3" });
  change("deleted", { id: 4, name: "c" }, { tx: "3" });
  cut();
  expect(collection.get(4)!.name).toBe("d");
  change("deleted", { id: 4, name: "d" }, { tx: "4" });
  cut();
  expect(collection.has(4)).toBe(false);
});

test("one event for each cut, and none for what came to nothing", () => {
  const { collection, events, change, snapshot, cut } = stage();
  snapshot({ id: 1 }, { id: 2 });
  change("updated", { id: 1, name: "Luna" });
  change("created", { id: 3 });
  change("deleted", { id: 3 });
  expect([events, collection.size]).toEqual([[], 0]);
  cut();
  expect(events).toEqual([{ set: new Map([[1, { id: 1, name: "Luna" }], [2, { id: 2 }]]), removed: new Map() }]);
  change("created", { id: 5 });
  change("deleted", { id: 5 });
  cut();
  expect(events).toHaveLength(1);
  change("deleted", { id: 2 });
  cut();
  expect(events[1]).toEqual({ set: new Map(), removed: new Map([[2, { id: 2 }]]) });
  collection.close();
  change("deleted", { id: 1 });
  cut();
  expect(events).toHaveLength(2);
});

test("an error shows no half of a transaction", () => {
  const { collection, events, change, snapshot, cut, fail } = stage();
  snapshot({ id: 1 });
  cut();
  change("deleted", { id: 1 });
  fail();
  expect([events.length, collection.size]).toEqual([1, 1]);
});

test("who is told of a cut finds the rows of it", () => {
  const { collection, change, snapshot, cut } = stage();
  snapshot({ id: 1, name: "Luna" });
  cut();
  const sizes: number[] = [];
  collection.on("change", ({ set, removed }) => sizes.push(collection.size, set.size, removed.size));
  change("created", { id: 2 });
  change("deleted", { id: 1, name: "Luna" });
  cut();
  expect(sizes).toEqual([1, 1, 1]);
});

test("a later snapshot gives one event with the difference and leaves equal rows alone", () => {
  const { collection, events, snapshot, cut } = stage();
  snapshot({ id: 1, name: "Luna" }, { id: 2, name: "Rex" }, { id: 3, name: "Mia" });
  cut();
  const luna = collection.get(1);
  snapshot({ id: 4, name: "Ivy" }, { id: 1, name: "Luna" }, { id: 2, name: "King" });
  cut();
  expect(events[1]).toEqual({
    set: new Map([[4, { id: 4, name: "Ivy" }], [2, { id: 2, name: "King" }]]),
    removed: new Map([[3, { id: 3, name: "Mia" }]]),
  });
  expect(collection.get(1)).toBe(luna);
});

test("rows that the page was rendered with are shown at once, and what has changed since follows", () => {
  const { collection, events, change, cut, options } = stage({ key: "id", initial: { cursor: "1A", rows: [{ id: 1, name: "Luna" }, { id: 2 }] } });
  expect(options()).toMatchObject({ since: "1A", snapshot: true });
  expect([...collection.keys()]).toEqual([1, 2]);
  change("deleted", { id: 2 });
  change("updated", { id: 1, name: "Lune" });
  cut();
  expect([...collection.values()]).toEqual([{ id: 1, name: "Lune" }]);
  expect(events).toEqual([{ set: new Map([[1, { id: 1, name: "Lune" }]]), removed: new Map([[2, { id: 2 }]]) }]);
});

test("a key may have several columns, or be made by a function", () => {
  const several = stage({ key: ["clinic", "id"] });
  several.snapshot({ clinic: "a", id: 1 }, { clinic: "b", id: 1 });
  several.change("updated", { clinic: "c", id: 1 }, { old: { clinic: "a", id: 1 } });
  several.cut();
  expect([...several.collection.keys()]).toEqual(['["b",1]', '["c",1]']);

  const made = stage({ key: (pet) => `pet ${pet.id}` });
  made.snapshot({ id: 1 });
  made.cut();
  expect(made.collection.has("pet 1")).toBe(true);
});

test.for<[CollectionOptions<Pet>["key"]]>([["id"], [["clinic", "id"]]])("a key of %j that was rounded is an error, once", ([key]) => {
  const { collection, snapshot, cut } = stage({ key });
  const codes: string[] = [];
  collection.on("error", ({ code, final }) => codes.push(`${code} ${final}`));
  snapshot({ id: 2 ** 53 - 1 });
  expect(codes).toEqual([]);
  snapshot({ id: 2 ** 53 }, { id: 2 ** 53 + 2 });
  cut();
  expect(codes).toEqual(["unsafe_key false"]);
});
