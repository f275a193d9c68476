/** What a query of TanStack DB asks for, as filters and an order of rowcast. Pure; knows neither a client nor a collection. */
import type { IR, LoadSubsetOptions } from "@tanstack/db";

type Expression = IR.BasicExpression;
type Direction = { readonly column: string; readonly desc: boolean; readonly nullsFirst: boolean; readonly isLexical: boolean };

/** A server takes so many filters, of so many bytes each, with so many values of an `in`. */
const FILTERS = 10;
const BYTES = 2_000;
const VALUES = 100;

const OPERATORS = ["eq", "gt", "gte", "lt", "lte", "like", "ilike", "in"];
/** The same, seen from the other side. */
const TURNED: Record<string, string> = { eq: "eq", gt: "lt", gte: "lte", lt: "gt", lte: "gte" };

/** The server knows of booleans whether they are equal: of a range, those that are in it. */
const BOOLEANS: Record<string, (limit: boolean) => boolean[]> = {
  lt: (limit) => (limit ? [false] : []),
  lte: (limit) => (limit ? [false, true] : [false]),
  gt: (limit) => (limit ? [] : [true]),
  gte: (limit) => (limit ? [true] : [false, true]),
};

/** A condition that no filter can say. */
export class NotLoadable extends Error {
  override readonly name = "NotLoadable";
  constructor(what: string) {
    super(`rowcast cannot load what ${what} selects: select it from rows that are loaded by other conditions, or sync eagerly`);
  }
}

/**
 * Lists of filters that together select the rows of a condition. Each is a subscription: there are several only for an `in` of
 * more values than a filter takes. Of a condition that nothing satisfies there is none.
 */
export function filtersOf(...all: (Expression | undefined)[]): string[][] {
  let lists: string[][] = [[]];
  for (const condition of all.flatMap((each) => (each ? conjuncts(each) : []))) {
    const alternatives = alternativesOf(condition);
    lists = lists.flatMap((list) => alternatives.map((filter) => (filter === "" ? list : [...list, filter])));
  }
  return lists.map(fitted);
}

/** The order of a request, as a window takes it. */
export function orderOf(orderBy: NonNullable<LoadSubsetOptions["orderBy"]>): Direction[] {
  return orderBy.map(({ expression, compareOptions }) => ({
    column: columnOf(expression),
    desc: compareOptions.direction === "desc",
    nullsFirst: compareOptions.nulls === "first",
    isLexical: compareOptions.stringSort === "lexical",
  }));
}

export function orderText({ column, desc, nullsFirst }: Direction): string {
  return `${name(column)}.${desc ? "desc" : "asc"}.nulls${nullsFirst ? "first" : "last"}`;
}

/** Selects the rows from the first one of an order to those that have a value in its first column, all of these included. */
export function upTo({ column, desc, nullsFirst }: Direction, value: unknown): string[] {
  if (value === null) return nullsFirst ? [`${name(column)}=is.null`] : [];
  const operator = desc ? "gte" : "lte";
  if (!nullsFirst) return [`${name(column)}=${compared(operator, value, false)}`];
  return [`or=(${name(column)}.${compared(operator, value, true)},${name(column)}.is.null)`];
}

function conjuncts(condition: Expression): Expression[] {
  return condition.type === "func" && condition.name === "and" ? condition.args.flatMap(conjuncts) : [condition];
}

/** Filters one of which holds where the condition does. An empty one holds always. */
function alternativesOf(condition: Expression): string[] {
  if (condition.type === "val") return condition.value === true ? [""] : [];
  if (condition.type === "func" && condition.name === "in") {
    const [column, list] = condition.args;
    if (column?.type === "ref" && list?.type === "val") {
      return chunks(valuesOf(list.value)).map((values) => `${name(columnOf(column))}=in.(${values.join()})`);
    }
  }
  return [filterOf(condition, false)];
}

/** One filter. `isMember`: inside of a group. */
function filterOf(condition: Expression, isMember: boolean, isNot = false): string {
  const not = isNot ? "not." : "";
  if (condition.type === "ref") return test(condition, `${not}is.true`, isMember);
  if (condition.type === "val") throw new NotLoadable(`the constant ${String(condition.value)}`);
  const { name: operator, args } = condition;
  const [first, second] = args;
  if (operator === "not" && first) return filterOf(first, isMember, !isNot);
  if (operator === "and" || operator === "or") {
    const members = args.map((each) => filterOf(each, true)).join();
    return `${not}${operator}${isMember ? "" : "="}(${members})`;
  }
  if ((operator === "isNull" || operator === "isUndefined") && first?.type === "ref") return test(first, `${not}is.null`, isMember);
  if (first?.type === "val" && second?.type === "ref" && TURNED[operator]) {
    return test(second, compared(TURNED[operator], first.value, isMember, isNot), isMember);
  }
  if (first?.type !== "ref" || second?.type !== "val" || !OPERATORS.includes(operator)) throw new NotLoadable(`${operator}(…)`);
  if (operator === "in") {
    const values = valuesOf(second.value);
    if (values.length === 0 || chunks(values).length > 1) throw new NotLoadable(`an in of ${values.length} values beside others`);
    return test(first, `${not}in.(${values.join()})`, isMember);
  }
  const isPattern = operator === "like" || operator === "ilike";
  // there a star stands for any text too
  const value = isPattern ? text(second.value).replace(/\*/g, "\\*") : second.value;
  return test(first, compared(operator, value, isMember, isNot), isMember);
}

function test(column: Expression, rest: string, isMember: boolean): string {
  return `${name(columnOf(column))}${isMember ? "." : "="}${rest}`;
}

function columnOf(expression: Expression): string {
  if (expression.type !== "ref" || expression.path.length !== 1) {
    throw new NotLoadable(expression.type === "ref" ? `a part of a column, ${expression.path.join(".")},` : "an expression");
  }
  return expression.path[0]!;
}

/** A column's name may hold what separates it from the rest. */
function name(column: string): string {
  return /^\w+$/.test(column) ? column : quoted(column);
}

/** Null stays unknown, also where nothing, or everything else, is in the range. */
function compared(operator: string, value: unknown, isMember: boolean, isNot = false): string {
  const range = typeof value === "boolean" ? BOOLEANS[operator]?.(value) : undefined;
  if (!range) return `${isNot ? "not." : ""}${operator}.${operand(value, isMember)}`;
  const isNone = range.length === 0;
  return `${isNot !== isNone ? "not." : ""}in.(${isNone ? "false,true" : range.join()})`;
}

function operand(value: unknown, isMember: boolean): string {
  return isMember ? quoted(text(value)) : text(value);
}

function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, "\\$&")}"`;
}

function text(value: unknown): string {
  if (value instanceof Date) return value.toISOString();
  if (["string", "number", "bigint", "boolean"].includes(typeof value)) return String(value);
  throw new NotLoadable(value === null || value === undefined ? "a comparison with null (say isNull)" : "a comparison with an object");
}

/** Of an `in`; null is equal to nothing. */
function valuesOf(list: unknown): string[] {
  if (!Array.isArray(list)) throw new NotLoadable("an in of what is no list");
  return [...new Set(list.filter((value) => value !== null && value !== undefined).map((value) => quoted(text(value))))];
}

function chunks(values: readonly string[]): string[][] {
  const all: string[][] = [];
  let bytes = 0;
  for (const value of values) {
    const size = new TextEncoder().encode(value).length + 1;
    if (all.length === 0 || all.at(-1)!.length >= VALUES || bytes + size > BYTES - 200) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1)!.push(value);
    bytes += size;
  }
  return all;
}

function fitted(filters: string[]): string[] {
  if (filters.length > FILTERS) throw new NotLoadable(`more than ${FILTERS} conditions`);
  for (const filter of filters) {
    if (new TextEncoder().encode(filter).length > BYTES) throw new NotLoadable(`a condition of more than ${BYTES} bytes`);
  }
  return filters;
}
