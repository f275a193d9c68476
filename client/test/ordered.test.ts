import { expect, test } from "vitest";
import { compare, placeOf, type OrderColumn } from "../src/ordered.js";

const ascending = (type: string): OrderColumn[] => [{ column: "c", type, desc: false, nulls: "last" }];

/** Sorts values by one column. */
function sorted(order: readonly OrderColumn[], values: readonly unknown[]): unknown[] {
  const places = values.map((c) => ({ c, place: placeOf(order, { c })! }));
  return places.sort((one, other) => compare(order, one.place, other.place)).map(({ c }) => c);
}

/** Expects that values have this order, whatever the order in which they come. */
function expectOrder(type: string, ...values: unknown[]): void {
  const order = ascending(type);
  for (const [i, one] of values.entries()) {
    for (const [j, other] of values.entries()) {
      const [a, b] = [placeOf(order, { c: one })!, placeOf(order, { c: other })!];
      expect(Math.sign(compare(order, a, b)), `${one} and ${other}`).toBe(Math.sign(i - j));
    }
  }
  expect(sorted(order, [...values].reverse())).toEqual(values);
}

test("numbers by their value, also those that JSON has no number for, and those whose digits a parser keeps", () => {
  expectOrder("integer", -5, 0, 3, 20, null);
  expectOrder("number", "-Infinity", -1.5, -1, 0, 0.05, 0.5, 3, 20, 1e21, "Infinity", "NaN", null);
  expectOrder("integer", "-9007199254740993", "-9007199254740992", -1, 7, "9007199254740992", "9007199254740993", "10000000000000000");
  expectOrder("number", "-1.0000000000000000002", -1, "0.00000000000000000012", "0.1234567890123456781", "0.1234567890123456782", 5, "NaN");
  expectOrder("number", 1e-7, "0.0000001000000000000001", 1, "12345678901234567890", 1e30, "Infinity");
  const [a, b] = ["1.50000000000000000000", 1.5].map((c) => placeOf(ascending("number"), { c })!);
  expect(compare(ascending("number"), a!, b!)).toBe(0);
});

test("texts by their code points, which UTF-16 has in another order", () => {
  expectOrder("text", "", " ", "B", "Ba", "a", "b", "ß", "€", "\ud7ff", "\ue000", "\uffff", "😀", "😀a", "😁", null);
  const texts = ["\u{10000}", "\uffee", "a\u{1f600}", "a\ufb01", "", "zz", "z"];
  const byBytes = [...texts].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
  expect(sorted(ascending("text"), texts)).toEqual(byBytes);
  expectOrder("uuid", "00000000-0000-0000-0000-000000000001", "0fffffff-0000-0000-0000-000000000000", "a0000000-0000-0000-0000-000000000000");
});

test("times by the moment that they name", () => {
  expectOrder("timestamptz", "-infinity", "4714-11-24T00:00:00+00:00 BC", "0044-03-15T12:00:00+00:00 BC", "0001-12-31T23:59:59+00:00 BC",
    "0001-01-01T00:00:00+00:00", "1999-12-31T23:59:59.999999+00:00", "2000-01-01T00:00:00+00:00", "2024-02-29T00:00:00+00:00",
    "2024-03-01T00:00:00+00:00", "2024-03-01T00:00:00.05+00:00", "2024-03-01T00:00:00.5+00:00", "2024-03-01T00:00:00.500001+00:00",
    "9999-12-31T23:59:59+00:00", "10000-01-01T00:00:00+00:00", "294276-12-31T23:59:59.999999+00:00", "infinity", null);
  // a writer's offset, which years after 9999 may keep
  expectOrder("timestamptz", "12000-01-01T05:29:59+05:30", "12000-01-01T00:00:00+00:00", "11999-12-31T20:00:01-04:00");
  expectOrder("timestamptz", "0050-01-01T00:19:31+00:19:32 BC", "0050-01-01T00:00:00+00:00 BC");
  expectOrder("timestamp", "2024-01-15T10:30:00", "2024-01-15T10:30:00.000001", "2024-01-15T10:30:01", "10000-01-01T00:00:00");
  expectOrder("date", "-infinity", "4713-01-01 BC", "0001-12-31 BC", "0001-01-01", "1900-02-28", "1900-03-01", "2024-01-31", "2024-02-01",
    "5874897-12-31", "infinity");
  expectOrder("time", "00:00:00", "09:59:59.999999", "10:30:00", "10:30:00.45", "10:30:00.5", "24:00:00");
});

test("each day of eight hundred years comes after the one before", () => {
  const order = ascending("date");
  let before = placeOf(order, { c: "1599-12-31" })!;
  const wrong: string[] = [];
  for (let time = Date.UTC(1600, 0, 1); time < Date.UTC(2401, 0, 1); time += 86_400_000) {
    const day = new Date(time).toISOString().slice(0, 10);
    const place = placeOf(order, { c: day })!;
    if ((place[0] as number[])[0]! - (before[0] as number[])[0]! !== 86_400) wrong.push(day);
    before = place;
  }
  expect(wrong).toEqual([]);
});

test("null stands where the order says, whatever the direction", () => {
  for (const desc of [false, true]) {
    for (const nulls of ["first", "last"] as const) {
      const values = sorted([{ column: "c", type: "boolean", desc, nulls }], [true, null, false]);
      const others = desc ? [true, false] : [false, true];
      expect(values).toEqual(nulls === "first" ? [null, ...others] : [...others, null]);
    }
  }
});

test("the first column that differs decides, and a row that lacks one has no place", () => {
  const order: OrderColumn[] = [
    { column: "a", type: "text", desc: true, nulls: "first" },
    { column: "b", type: "integer", desc: false, nulls: "last" },
  ];
  const rows = [{ a: "x", b: 2 }, { a: "y", b: 9 }, { a: null, b: 5 }, { a: "x", b: 1 }, { a: null, b: null }];
  const places = new Map(rows.map((row) => [row, placeOf(order, row)!]));
  rows.sort((one, other) => compare(order, places.get(one)!, places.get(other)!));
  expect(rows.map(({ a, b }) => `${a}${b}`)).toEqual(["null5", "nullnull", "y9", "x1", "x2"]);
  expect(placeOf(order, { a: "x" })).toBeUndefined();
});
