"""Encodings that a database may have, each with words that it can hold and ASCII cannot."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Charset:
    """`codec` is Python's name of it; bytes that it does not know are kept as lone surrogates."""

    name: str
    codec: str
    words: tuple[str, ...]
    invalid: tuple[str, ...] = ()  # bytes that the server takes and cannot turn into UTF-8
    options: tuple[str, ...] = ("lc_collate 'C' lc_ctype 'C'",)


UTF8 = Charset(
    "UTF8",
    "utf-8",
    ("Zürich – 猫 😀", "ñandú", "e\u0301", "\u2028line", "\ufeffbom", "עברית", "ﬀ İı ẞ", "\U0010ffff", "\x7f\x01"),
    options=(
        "lc_collate 'C' lc_ctype 'C'",
        "lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8'",
        "locale_provider icu icu_locale 'tr-TR' lc_collate 'C' lc_ctype 'C'",
    ),
)
CHARSETS = (
    UTF8,
    Charset("SQL_ASCII", "utf-8", ("Zürich",), ("Andr\udce9", "\udcff\udcfe", "caf\udcc3")),
    Charset("LATIN1", "latin-1", ("Zürich", "ñ \x85\xa0")),
    Charset("WIN1252", "cp1252", ("Zürich €", "„so“ – ž"), ("\udc81", "x\udc8d\udc9d")),
    Charset("LATIN9", "iso8859-15", ("Œuvre €",)),
    Charset("WIN1251", "cp1251", ("кошка №",)),
    Charset("KOI8R", "koi8-r", ("кошка",)),
    Charset("EUC_JP", "euc_jp", ("ねこ 漢字", "カナ")),
    Charset("EUC_KR", "euc_kr", ("고양이",)),
)


def as_told(text: str) -> str:
    """The text as a subscriber may see it: whatever is no text is a replacement character, however many stand there."""
    return re.sub("[\udc80-\udcff\ufffd]+", "\ufffd", text)
