"""The licences of what is in the program, each text once, with the crates that it is for."""

import re
from pathlib import Path

from . import crates
from .binaries import HOST
from .release import Release

TEXTS = re.compile(r"(?i)^(licen[cs]e|copying|notice|unlicense|copyright)([-._].*)?$")
HEAD = """rowcast {version} is licensed under MIT OR Apache-2.0, as you choose. What follows is in the program too: the crates of
Rust that it is made of, each with its licence. Rust's own library is under MIT OR Apache-2.0. A program whose name ends
with -musl or -static has the C library in it: musl is under MIT, glibc under LGPL-2.1-or-later, whose terms the source
that lies beside the program meets, since it can be linked anew. The dashboard has uPlot in it, under MIT; its text is in
web/vendor/uplot.js.
"""


def write(release: Release) -> Path:
    """Sorted, so that the same crates give the same file."""
    _, *others = crates.of(release)
    used = [crate for crate in others if crate.linked]
    lines = [
        HEAD.format(version=release.version),
        *(f"{crate.name} {crate.version}: {crate.licence}" for crate in used),
        "",
    ]
    texts: dict[str, list[str]] = {}
    for crate in used:
        for file in sorted(crate.folder.iterdir()):
            if TEXTS.match(file.name) and file.is_file():
                text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip("\n")
                texts.setdefault(text, []).append(f"{crate.name} {crate.version}")
    for text, names in sorted(texts.items(), key=lambda each: each[1]):
        lines += ["=" * 100, ", ".join(dict.fromkeys(names)), "", text, ""]
    # the crates are others on another architecture
    file = release.into / f"rowcast-{release.version}-{HOST.triple}.THIRD-PARTY.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file
