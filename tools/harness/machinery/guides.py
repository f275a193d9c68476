"""The blocks of docs/guides that tell what to type: each machine runs those of its tool as they are printed."""

from __future__ import annotations

import re

from harness.repository import ROOT

from .stage import Wrong


def blocks(page: str, language: str) -> list[str]:
    """All blocks of a language, in order."""
    text = (ROOT / "docs/guides" / page).read_text(encoding="utf-8")
    return [found for kind, found in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", text, re.M | re.S) if kind == language]


def block(page: str, language: str, word: str = "") -> str:
    """The block that has this word."""
    found = [each for each in blocks(page, language) if word in each]
    if len(found) != 1:
        raise Wrong(f"docs/guides/{page} has {len(found)} blocks in {language} with {word!r}, and one is expected")
    return found[0]
