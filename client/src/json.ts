/** JSON of what the application's parser may have made: it may give a BigInt, and the server takes a number as text. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, each) => (typeof each === "bigint" ? String(each) : each));
}
