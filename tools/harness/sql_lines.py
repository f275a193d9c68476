"""The lines of sql/ have at most 120 characters; `--fix` breaks those that are longer, at the outermost place where it helps.

Owns where a line may be broken. Changes white space alone, and parts a long text into several, which Postgres reads as one;
it checks that itself, and leaves a file that would say something else as it is. Migrations are frozen, so they are not looked at.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from harness.repository import ROOT

WIDTH = 120
# a text, a quoted name, a comment, a dollar quote, a word with its dots, a number, an operator, anything else
TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"[^"]*"|--[^\n]*|\$\w*\$|[A-Za-z_][\w.]*|\d[\w.]*|::|[-+*/<>=~!@#%^&|`?]+|\s+|.""", re.DOTALL
)
CLAUSES = {
    "from",
    "where",
    "group",
    "having",
    "union",
    "left",
    "cross",
    "join",
    "returning",
    "on conflict",
    "values",
    "limit",
    "set",
}
STARTS = {
    "select",
    "set",
    "values",
    "perform",
    "raise",
    "create",
    "insert",
    "execute",
    "from",
    "order",
    "group",
    "with",
    "call",
    "grant",
    "revoke",
    "using",
    "returning",
    "update",
    "delete",
}
# how far a clause stands to the right of its select: their last letters are below each other
OFFSETS = {
    "from": 2,
    "join": 2,
    "left": 2,
    "cross": 1,
    "where": 1,
    "group": 1,
    "order": 1,
    "limit": 1,
    "union": 1,
    "having": 0,
}
RANKS = ("statement", "function", "clause", "branch", "then", "logic", "comma", "raise", "is", "concat", "operator")


def tokens(text: str) -> list[str]:
    """What Postgres reads: without white space and comments, texts that a line break parts as one."""
    found: list[str] = []
    was_break = False
    for token in TOKEN.findall(text):
        if token.isspace():
            was_break = was_break or "\n" in token
        elif not token.startswith("--"):
            if found and was_break and token.startswith("'") and found[-1].startswith("'"):
                found[-1] = found[-1][:-1] + token[1:]
            else:
                found.append(token)
            was_break = False
    return found


def breaks(words: list[str]) -> list[tuple[int, str, int]]:
    """Where a line may be broken: before which word, how it is called, how deep it lies."""
    found: list[tuple[int, str, int]] = []
    depth = cases = 0
    opened: list[bool] = []  # whether what each open bracket holds is a query
    is_choice = words[0] in ("if", "elsif")
    solid = [index for index, word in enumerate(words) if not word.isspace()]
    for place, index in enumerate(solid):
        word, previous = words[index], words[solid[place - 1]] if place else ""
        following = words[solid[place + 1]] if place + 1 < len(solid) else ""
        if word in ")]" or (word == "end" and cases and following not in ("if", "loop")):
            depth -= 1
            cases -= word == "end"
        rank = ""
        if (
            previous == ";"
            or (word == "end" and following in ("if", "loop"))
            or is_choice
            and not cases
            and (previous in ("then", "else") or word == "else")
        ):
            rank = "statement"
        elif word in ("returns", "language") and depth <= 0:
            rank = "function"
        elif (opened and not opened[-1]) and word in ("order", "limit", "from", "where"):
            pass  # of an aggregate, or of a function
        elif (
            word in CLAUSES
            and (word != "left" or following in ("join", "outer"))
            and previous not in ("left", "cross", "distinct", "is", "delete", "not", "update", "on", "select")
        ) or (word == "order" and following == "by"):
            rank = "clause"
        elif word in ("when", "else"):
            rank = "branch"
        elif word in ("and", "or") and previous != "create" and "between" not in words[max(0, index - 4) : index]:
            rank = "logic"
        elif word == "using" and cases == 0:
            rank = "raise"
        elif previous == ",":
            rank = "comma"
        elif word == "||":
            rank = "concat"
        elif previous == "is" and word.startswith("'"):
            rank = "is"
        elif word == "then" and following and not is_choice:
            rank = "then"
        elif (
            word == "is"
            and following == "distinct"
            or re.fullmatch(r"<>|=|<|>|<=|>=|operator", word)
            and previous not in ("hint", "errcode")
            and following != "case"
        ):
            rank = "operator"
        if rank and place and words[index - 1].isspace() and (place > 1 or words[0] not in ("case", "then", "else")):
            found.append((index, rank, depth))
        if word in ("(", "["):
            opened.append(following in ("select", "with"))
        elif word in (")", "]") and opened:
            opened.pop()
        if word in ("(", "[", "case"):
            depth += 1
            cases += word == "case"
    return found


def openings(words: list[str], places: list[int]) -> list[int]:
    """The first argument of each call whose arguments stand below each other."""
    found: list[int] = []
    for place in places:
        depth = 0
        for index in range(place - 1, -1, -1):
            depth += (words[index] in ")]") - (words[index] in "([")
            if depth < 0:
                if len([each for each in places if each > index]) > 0 and words[index + 1] != "select":
                    found.append(index + 1)
                break
    return found


def part(line: str) -> list[str]:
    """The lines that a line of code becomes."""
    if len(line) <= WIDTH:
        return [line]
    indent = len(line) - len(line.lstrip())
    words: list[str] = TOKEN.findall(line.strip())
    if words[-1].startswith("--"):
        return [f"{' ' * indent}{words[-1]}", *part(f"{' ' * indent}{''.join(words[:-1]).rstrip()}")]
    possible = breaks(words)
    if not possible:
        return part_text(words, indent)
    outermost = min(depth for _, _, depth in possible)
    rank = min((RANKS.index(rank) for _, rank, depth in possible if depth == outermost))
    places = [index for index, name, depth in possible if depth == outermost and RANKS.index(name) == rank]
    if RANKS[rank] == "comma":
        places = sorted({*places, *openings(words, places)})
    pieces = ["".join(words[start:end]).strip() for start, end in zip([0, *places], [*places, len(words)], strict=True)]
    if len(pieces) == 1:
        return part_text(words, indent)
    shallow = indented(words, pieces, RANKS[rank], indent, outermost, False)
    # clauses stand below their own select, and columns below the first one, where that leaves room
    deep = indented(words, pieces, RANKS[rank], indent, outermost, True)
    return deep if max(map(len, deep)) <= WIDTH else shallow


def indented(words: list[str], pieces: list[str], rank: str, indent: int, outermost: int, is_deep: bool) -> list[str]:
    """The pieces, each where it comes to stand, and parted where it is still too long."""
    base, hanging = indent, indent + 2
    select = re.search(r"\bselect\b(?!.*\bselect\b)", pieces[0])
    if rank == "clause":
        if words[0] in OFFSETS and outermost <= 0:
            base = indent - OFFSETS[words[0]]
        elif is_deep and select:
            base = indent + select.start()
    elif rank == "comma" and outermost <= 0:
        # a line that goes on with a list has its first item where the others come to stand
        hanging = indent + (7 if words[0] == "select" else 4 if words[0] == "set" else 2 if words[0] in STARTS else 0)
    elif rank == "logic" and outermost <= 0:
        hanging = indent + (0 if words[0] in ("and", "or") else 2)
    lines: list[str] = []
    for number, piece in enumerate(pieces):
        if number == 0 or rank == "function" or rank == "statement" and piece.startswith(("end ", "else", "elsif")):
            at = indent
        elif rank == "clause":
            at = max(0, base + OFFSETS.get(piece.split()[0], 2))
        else:
            at = hanging
        lines += part(" " * at + piece)
    return lines


def part_text(words: list[str], indent: int) -> list[str]:
    """Parts the longest text of a line, where a space is and no name of ours, which has its meaning with the words beside it."""
    longest = max(range(len(words)), key=lambda index: len(words[index]) if words[index].startswith("'") else 0)
    text = words[longest]
    before, after = " " * indent + "".join(words[:longest]), "".join(words[longest + 1 :])
    spaces = [at for at, sign in enumerate(text) if sign in " ," and len(before) + at + 2 <= WIDTH and at > 20]
    spaces = [
        at
        for at in spaces
        if "rowcast" not in text[max(0, at - 16) : at + 16] and text[at - 1] != "'" and text[at + 1] != "'"
    ]
    if not text.startswith("'") or not spaces:
        return [" " * indent + "".join(words)]
    at = spaces[-1] + 1
    column = len(before) if len(before) < WIDTH // 2 else indent + 2
    return [f"{before}{text[:at]}'", *part(f"{' ' * column}'{text[at:]}{after}")]


def fill(lines: list[str]) -> list[str]:
    """Comment lines of one paragraph, filled anew."""
    head = re.match(r"\s*-- *(?:\* )?", lines[0])
    rest = re.match(r"\s*-- *", lines[1] if len(lines) > 1 else lines[0])
    assert head and rest
    hanging = rest.group() if len(lines) > 1 else head.group().replace("*", " ")
    filled, current = [], head.group()
    for word in " ".join([lines[0][head.end() :], *(line.strip().lstrip("-").strip() for line in lines[1:])]).split(
        " "
    ):
        if len(current) + len(word) + 1 > WIDTH:
            filled.append(current.rstrip())
            current = hanging
        current += word + " "
    return [*filled, current.rstrip()]


def fixed(text: str) -> str:
    """The text with lines that are short enough, as far as they can be."""
    lines, result, index = text.splitlines(), [], 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if len(line) <= WIDTH:
            result.append(line)
        elif line.lstrip().startswith("--"):
            paragraph = [line]
            prefix = re.match(r"\s*-- *", line)
            assert prefix
            # the first line of a file, and what is numbered, stands alone
            while (
                index < len(lines)
                and (index > 1 or " -> " not in line)
                and not re.match(r"\s*-- *\d", lines[index])
                and re.match(r"\s*--\s*[^\s*-]", lines[index])
                and not lines[index].lstrip().startswith("-- tables")
            ):
                following = re.match(r"\s*-- *", lines[index])
                assert following
                if len(paragraph) > 1 and following.group() != re.match(r"\s*-- *", paragraph[1]).group():  # type: ignore[union-attr]
                    break
                if len(following.group()) < len(prefix.group()):
                    break
                paragraph.append(lines[index])
                index += 1
            result += fill(paragraph)
        else:
            result += part(line)
    made = "\n".join(result) + "\n"
    return made if tokens(made) == tokens(text) else text


def long_lines(files: list[Path]) -> list[str]:
    """Where a line is too long."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {len(line)} characters, {WIDTH} are allowed"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > WIDTH
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fix", action="store_true", help="break the lines that are too long")
    arguments = parser.parse_args()
    files = sorted((ROOT / "sql").rglob("*.sql"))
    if arguments.fix:
        for file in files:
            text = file.read_text(encoding="utf-8")
            if (made := fixed(text)) != text:
                file.write_text(made, encoding="utf-8")
    found = long_lines(files)
    print("\n".join(found) if found else f"{len(files)} files of SQL, no line above {WIDTH} characters")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
