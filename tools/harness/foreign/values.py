"""Types of columns, and constants of each of them as SQL."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .charset import Charset
from .names import literal

Maker = Callable[[random.Random, "Taste"], str]


@dataclass(frozen=True)
class Taste:
    """What values may be like in a round."""

    charset: Charset
    odd: bool
    invalid: bool
    wide: bool


@dataclass(frozen=True)
class Type:
    """`kind` is what a round must have for it; "" where every round may."""

    sql: str
    make: Maker
    kind: str = "types"
    is_key: bool = False
    filters: str = ""  # operators with which it may be filtered


def text(rng: random.Random, taste: Taste) -> str:
    """A text, mostly a harmless one."""
    roll = rng.random()
    if taste.invalid and roll < 0.05:
        return literal(rng.choice(taste.charset.invalid or ("plain",)))
    if roll < 0.55:
        return literal(rng.choice("abcdefgh") * rng.randint(1, 3))
    if roll < 0.7:
        return literal(rng.choice(taste.charset.words))
    if taste.wide and roll < 0.78:
        return f"repeat({literal(rng.choice(taste.charset.words))}, {rng.choice((400, 3000, 9000))})"
    if taste.odd:
        return rng.choice(
            (
                "''",
                literal('O\'Neil \\ "so"'),
                literal('{"a":1}'),
                literal("line\nbreak\ttab\r"),
                literal("\x1f\x7f"),
                literal("null"),
                literal(" "),
                literal("</script>"),
                literal("\\u0000"),
                literal("%_*"),
                literal('NULL,"x"'),
                "chr(1) || chr(31)",
            )
        )
    return literal(f"word {rng.randrange(100)}")


def whole(low: int, high: int) -> Maker:
    """An integer that is small in most cases, and sometimes the first or last of its type."""
    return lambda rng, taste: (
        str(rng.choice((low, high, 0))) if taste.odd and rng.random() < 0.15 else str(rng.randrange(0, 40))
    )


def one_of(*plain: str, odd: tuple[str, ...] = ()) -> Maker:
    """One of these constants."""
    return lambda rng, taste: f"'{rng.choice(odd if odd and taste.odd and rng.random() < 0.3 else plain)}'"


def json_text(rng: random.Random, taste: Taste) -> str:
    """For json, which keeps the text as it was written."""
    odd = (
        '{"a":"\\u0000"}',
        '{"a":1e200000}',
        '"\\ud800"',
        '{"a":1,"a":2}',
        " [ 1 , 2 ]\n",
        '{"\\u2028":"\\u2029"}',
        "-0.0",
        '{"a": 12345678901234567890.123}',
    )
    return (
        literal(rng.choice(odd))
        if taste.odd and rng.random() < 0.4
        else literal(rng.choice(('{"a":1}', "[1,2,null]", '"x"', "null", '{"b":{"c":[true]}}')))
    )


def hexed(rng: random.Random, taste: Taste) -> str:
    """For bytea, without a backslash."""
    size = rng.choice((0, 1, 3, 8)) if not taste.wide or rng.random() < 0.8 else rng.choice((3000, 9000))
    return f"decode('{rng.randbytes(size).hex()}', 'hex')"


STAMPS = ("2024-01-31 10:20:30.123456", "1970-01-01 00:00:00", "2000-02-29 23:59:59.999999", "1999-12-31 24:00:00")
FAR = ("infinity", "-infinity", "0044-03-15 12:00:00 BC", "12345-06-07 08:09:10", "294276-12-31 23:59:59")
INT4 = whole(-2147483648, 2147483647)
TYPES = (
    Type("int4", INT4, "", True, "eq in gt is"),
    Type("int4", INT4, "", True, "eq in gt is"),
    Type("text", text, "", True, "eq in gt like is"),
    Type("text", text, "", True, "eq in gt like is"),
    Type("bool", one_of("t", "f"), "", False, "eq is"),
    Type("int8", whole(-9223372036854775808, 9223372036854775807), is_key=True, filters="eq in gt is"),
    Type("int2", whole(-32768, 32767), is_key=True, filters="eq gt"),
    Type(
        "numeric",
        one_of(
            "0",
            "1.50",
            "2",
            "1e3",
            odd=("NaN", "Infinity", "-Infinity", "1e2000", "0.00000000000000000001", "1.0", "1.000", "-0.0"),
        ),
        is_key=True,
        filters="eq gt",
    ),
    Type("numeric(12,3)", one_of("0", "1.5", "99999"), filters="eq gt in"),
    Type(
        "float8",
        one_of(
            "0",
            "1.5",
            "0.1",
            "1e10",
            odd=("NaN", "Infinity", "-0", "1e-320", "1.7976931348623157e308", "0.30000000000000004"),
        ),
        is_key=True,
        filters="eq gt",
    ),
    Type("float4", one_of("0", "1.5", "0.1", odd=("NaN", "-Infinity", "1e-40", "16777217")), filters="gt"),
    Type("varchar(40)", lambda rng, taste: f"left({text(rng, taste)}, 40)", is_key=True, filters="eq like"),
    Type("char(5)", one_of("a", "bb", "ccccc", odd=("", "  ", " x")), is_key=True, filters="eq"),
    Type('"char"', one_of("a", "b", odd=("",))),
    Type("name", one_of("a", "some_name"), filters="eq"),
    Type("bytea", hexed, is_key=True),
    Type(
        "date",
        one_of("2024-01-31", "1999-12-31", odd=("infinity", "0001-01-01", "4713-01-01 BC", "5874897-12-31")),
        is_key=True,
        filters="eq gt",
    ),
    Type("time", one_of("10:20:30", "24:00:00", "00:00:00.000001"), filters="eq gt"),
    Type("timetz", one_of("10:20:30+02", "23:59:59-11:30")),
    Type("timestamp", one_of(*STAMPS, odd=FAR), is_key=True, filters="eq gt"),
    Type("timestamptz", one_of(*(f"{each}+03" for each in STAMPS), odd=FAR), is_key=True, filters="eq gt"),
    Type(
        "interval",
        one_of("1 day", "-1 year 2 mons", "26:00:00.5", odd=("0", "-1 mon 2 days -03:00:00", "178000000 years")),
    ),
    Type(
        "uuid",
        one_of(
            "00000000-0000-0000-0000-000000000001",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ),
        is_key=True,
        filters="eq in",
    ),
    Type("json", json_text),
    Type("jsonb", one_of('{"a":1}', "[1,2]", '"x"', "null", odd=("1e2000", '{"":""}', '{"a":{"a":{"a":{}}}}'))),
    Type("xml", one_of("<a/>", '<a b="1">x &amp; y</a>')),
    Type("inet", one_of("10.0.0.1", "::1/64", "192.168.1.0/24"), filters="eq"),
    Type("cidr", one_of("10.0.0.0/8", "2001:db8::/32")),
    Type("macaddr", one_of("08:00:2b:01:02:03"), filters="eq in"),
    Type("macaddr8", one_of("08:00:2b:01:02:03:04:05")),
    Type("bit(5)", one_of("10101", "00000")),
    Type("varbit", one_of("1", "0101", odd=("",))),
    Type("point", one_of("(1,2)", "(0.1,1e300)", odd=("(NaN,Infinity)",))),
    Type("line", one_of("{1,2,3}")),
    Type("lseg", one_of("[(0,0),(1,1)]")),
    Type("box", one_of("(1,1),(0,0)")),
    Type("path", one_of("[(0,0),(1,1)]", "((0,0),(1,1))")),
    Type("polygon", one_of("((0,0),(1,1),(1,0))")),
    Type("circle", one_of("<(0,0),1>")),
    Type("tsvector", one_of("a b:1A c", odd=("",))),
    Type("tsquery", one_of("a & (b | !c)")),
    Type("int4range", one_of("[1,5)", "(,3]", "empty", odd=("(,)",))),
    Type("numrange", one_of("[1.0,2.50]", "empty")),
    Type("tstzrange", one_of("[2024-01-01 00:00+00,2024-02-01 00:00+05)", "(,infinity)")),
    Type("daterange", one_of("[2024-01-01,2024-02-01]")),
    Type("int4multirange", one_of("{[1,3),[5,9)}", "{}")),
    Type("tstzmultirange", one_of("{[2024-01-01 00:00+00,2024-02-01 00:00+05)}")),
    Type("pg_lsn", one_of("16/B374D848", "0/0")),
    Type("xid8", one_of("1", "18446744073709551615")),
    Type("pg_snapshot", one_of("10:20:10,14,15")),
    Type("oid", one_of("1", "4294967295")),
    Type("regtype", one_of("integer", "timestamp with time zone")),
    Type("jsonpath", one_of("$.a[*] ? (@ > 1)")),
    Type("int4[]", one_of("{1,2,3}", "{}", odd=("[0:1]={1,2}", "{NULL}", "{{1,2},{3,4}}"))),
    Type("text[]", one_of("{a,b}", "{}", odd=('{"NULL",NULL,"","a""b"}'.replace('""', ""), "{{a},{b}}"))),
    Type("timestamptz[]", one_of('{"2024-01-01 00:00+05"}')),
    Type("interval[]", one_of('{"1 day","-1 mon"}')),
    Type("float8[]", one_of("{0.1,NaN}", "{1e-320}")),
    Type("bytea[]", lambda rng, taste: f"array[{hexed(rng, taste)}]"),
    Type("money", one_of("1.50", "-2")),
)


def nullable(rng: random.Random, taste: Taste, make: Maker) -> str:
    """The value, or null now and then."""
    return "null" if rng.random() < 0.12 else make(rng, taste)
