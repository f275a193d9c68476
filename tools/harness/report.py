"""How the benchmarks say what they found: figures, Markdown tables, and the machine that they belong to."""

import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.cluster import Cluster


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of a sorted list do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Median, and in brackets the least and the greatest: `0.79 (0.77-0.81)`."""
    middle = form(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form(min(values))}-{form(max(values))})"


def table(head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; figures to the right of the first column are aligned right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def origin(cluster: Cluster, load_before: float, fsync: str = "") -> str:
    """Under a table: on what, with which settings, by which command. `fsync` where the run has changed it."""
    differing = ", ".join(f"{name} = {value}" for name, value in sorted(cluster.settings.items()))
    return "\n".join(
        [
            (
                f"- Machine: {os.cpu_count()} CPUs ({processor()}), {platform.system()} {platform.release()}, load average before {load_before:.2f}; "
                "Postgres, rowcast and the benchmark's clients share it."
            ),
            (
                f"- PostgreSQL {cluster.psql('show server_version')}, fsync {fsync or cluster.psql('show fsync')}, "
                f"synchronous_commit {cluster.psql('show synchronous_commit')}; {differing}."
            ),
            f"- Command: `{' '.join(shlex.quote(part) for part in ['benches/' + os.path.basename(sys.argv[0]), *sys.argv[1:]])}`",
        ]
    )


def load_average() -> float:
    """Of the last minute; a busy machine gives figures that are worth nothing."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"warning: the machine is not idle (load average {load:.2f}): do not quote these figures", file=sys.stderr
        )
    return load


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
        return platform.machine()
    except OSError:
        found = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return found.stdout.strip() or platform.machine()
