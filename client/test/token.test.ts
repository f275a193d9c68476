import { expect, test } from "vitest";
import { renewIn, subprotocols } from "../src/token.js";

test("a token is offered as a subprotocol, none is not", () => {
  expect(subprotocols("a.b.c")).toEqual(["rowcast.v1", "bearer.a.b.c"]);
  expect(subprotocols(undefined)).toEqual(["rowcast.v1"]);
});

test("a token is renewed when half of what is left is over, and never at once", () => {
  expect([60, 10, 2, 1, 0].map(renewIn)).toEqual([30_000, 5_000, 1_000, 1_000, 1_000]);
});
