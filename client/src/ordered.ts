/** The order of rows, as the server says it and as Postgres has it. Knows no window. */

/** A column of an order, as the server tells it. */
export interface OrderColumn {
  column: string;
  type: string;
  desc: boolean;
  nulls: "first" | "last";
}

/** What a row is compared by: a value for each column of the order. */
export type Place = readonly unknown[];

interface Kind {
  /** once for a row, since it is compared many times */
  prepare(value: any): unknown;
  compare(one: any, other: any): number;
}

const same = (value: unknown): unknown => value;
const TEXT: Kind = { prepare: String, compare: compareTexts };
const NUMBER: Kind = { prepare: toNumber, compare: compareNumbers };
const MOMENT: Kind = { prepare: toMoment, compare: ([one, rest], [other, more]) => one - other || rest - more || 0 };
const KINDS: Record<string, Kind | undefined> = {
  integer: NUMBER,
  number: NUMBER,
  boolean: { prepare: same, compare: (one, other) => Number(one) - Number(other) },
  date: MOMENT,
  timestamp: MOMENT,
  timestamptz: MOMENT,
};

/** Where a row stands. Nothing where it lacks a column of the order. */
export function placeOf(order: readonly OrderColumn[], row: any): Place | undefined {
  const place: unknown[] = [];
  for (const { column, type } of order) {
    const value = row[column];
    if (value === undefined) return undefined;
    place.push(value === null ? null : kindOf(type).prepare(value));
  }
  return place;
}

/** Negative where the first place comes before the other one, 0 where they are one. */
export function compare(order: readonly OrderColumn[], one: Place, other: Place): number {
  for (let i = 0; i < order.length; i++) {
    const { type, desc, nulls } = order[i]!;
    const [a, b] = [one[i], other[i]];
    if (a === null || b === null) {
      if (a !== b) return (a === null) === (nulls === "first") ? -1 : 1;
      continue;
    }
    const difference = kindOf(type).compare(a, b);
    if (difference) return desc ? -difference : difference;
  }
  return 0;
}

function kindOf(type: string): Kind {
  return KINDS[type] ?? TEXT;
}

/** By code points, as UTF-8 orders bytes. UTF-16 has those above U+FFFF below those from U+E000 on. */
function compareTexts(one: string, other: string): number {
  const length = Math.min(one.length, other.length);
  for (let i = 0; i < length; i++) {
    const [a, b] = [one.charCodeAt(i), other.charCodeAt(i)];
    if (a !== b) return rank(a) - rank(b);
  }
  return one.length - other.length;
}

function rank(unit: number): number {
  return unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** A number, or its text where a number cannot hold it: a parser may keep all digits. */
function toNumber(value: unknown): number | string {
  if (typeof value === "number") return value;
  const text = String(value);
  return text.replace(/\D/g, "").length > 15 ? text : Number(text);
}

/** NaN is above all numbers, and equal to itself. */
function compareNumbers(one: number | string, other: number | string): number {
  if (one === other) return 0;
  if (typeof one === "number" && typeof other === "number") {
    if (one !== one || other !== other) return Number(one !== one) - Number(other !== other);
    return one < other ? -1 : Number(one > other);
  }
  for (const [value, sign] of [[one, 1], [other, -1]] as const) {
    if (value !== value || value === Infinity) return sign;
    if (value === -Infinity) return -sign;
  }
  const [a, b] = [toDigits(String(one)), toDigits(String(other))];
  if (a.sign !== b.sign) return a.sign - b.sign;
  return a.sign * (a.power - b.power || compareTexts(a.digits, b.digits));
}

/** 0.digits times ten to the power. The digits neither begin nor end with a zero. */
function toDigits(text: string): { sign: number; power: number; digits: string } {
  const [, minus, whole = "", rest = "", power = "0"] = /^([+-]?)(\d*)\.?(\d*)(?:e(.*))?$/i.exec(text) ?? [];
  const all = (whole + rest).replace(/^0+/, "");
  const zeros = whole.length + rest.length - all.length;
  const digits = all.replace(/0+$/, "");
  if (!digits) return { sign: 0, power: 0, digits };
  return { sign: minus === "-" ? -1 : 1, power: whole.length - zeros + Number(power), digits };
}

const TIME = /^(\d+)-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(\.\d+)?)?(?:([+-])(\d\d)(?::?(\d\d))?(?::?(\d\d))?|Z)?( BC)?$/;

/** The seconds of a moment, and the rest of a second: `Date` knows no microseconds, and not all years of Postgres. */
function toMoment(text: string): readonly [number, number] {
  const found = TIME.exec(text);
  if (!found) return [text === "infinity" ? Infinity : -Infinity, 0];
  const [, year, month, day, hour, minute, second, rest, sign, ...offset] = found;
  const [hours, minutes, seconds] = offset.map(Number).map((part) => part || 0) as [number, number, number];
  const days = dayOf(found[12] ? 1 - Number(year) : Number(year), Number(month), Number(day));
  const away = (hours * 60 + minutes) * 60 + seconds;
  const clock = (Number(hour ?? 0) * 60 + Number(minute ?? 0)) * 60 + Number(second ?? 0);
  return [days * 86_400 + clock - (sign === "-" ? -away : away), Number(rest ?? 0)];
}

/** Days of the Gregorian calendar, also before it was made. Its years begin in March here, so that the leap day is the last. */
function dayOf(year: number, month: number, day: number): number {
  const from = month > 2 ? year : year - 1;
  const [leap, none, again] = [4, 100, 400].map((years) => Math.floor(from / years)) as [number, number, number];
  return from * 365 + leap - none + again + Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day;
}
