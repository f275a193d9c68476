import { expect, test } from "vitest";
import { renamed } from "../src/route.js";

const said = (data: string, view: string) => `{"type":"realtime_update","data":${data}${view}}`;

test.each([
  ["another one", '{"id":9007199254740993}', "a_1", "a"],
  ["none", '{"total":0.10000000000000000001}', "_1", undefined],
  ["the same", '{"id":9007199254740993}', "a", "a"],
  ["none, and there was none", '{"id":9007199254740993}', undefined, undefined],
  ["another one beside a row that holds it", '{"a":1,"view":"a_1","b":{"c":1,"view":"a_1"}}', "a_1", "a"],
  ["none beside a row that holds it", '{"a":1,"view":"_1"}', "_1", undefined],
])("a message with another view keeps all else: %s", (_, data, from, to) => {
  const view = (name?: string) => (name ? `,"view":"${name}"` : "");
  expect(renamed(said(data, view(from)), from, to)).toBe(said(data, view(to)));
  const first = (name?: string) => `{"type":"realtime_update"${view(name)},"data":${data}}`;
  expect(renamed(first(from), from, to)).toBe(first(to));
});
