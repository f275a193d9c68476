"""What the measurements make of the figures of several nodes."""

import unittest
from typing import Any

from harness.bench import scenarios

QUIET = {"lost": 0, "repeated": 0, "disordered": 0, "misdirected": 0, "ended": 0}


def node(**figures: Any) -> dict[str, Any]:
    """The figures of one load."""
    line = {"published": 14, "deliveries": 140, "seconds": 1.9, "p50_ms": 5.0, "p95_ms": 8.0, "p99_ms": 9.0}
    return {**line, "cpu_seconds": 0.5, "database_cpu_seconds": 0.2, "generator_cpu_seconds": 0.1, **QUIET, **figures}


class Nodes(unittest.TestCase):
    """harness/bench/scenarios.py"""

    def test_frames_and_cores_add_up_and_a_delay_is_that_of_the_slowest(self) -> None:
        found = scenarios.together([node(), node(p99_ms=30.0, deliveries=130, lost=10)], [2**20, 2**21], 2)
        expected = {"changes": 7, "frames": 135, "p50_ms": 5, "p99_ms": 30, "server": 0.5, "database": 0.1, "memory": 3}
        self.assertEqual({name: found[name] for name in expected}, expected)
        self.assertEqual(found["lost"], 10)

    def test_frames_that_come_late_make_the_time_longer(self) -> None:
        self.assertEqual(scenarios.together([node(), node(seconds=4)], [None, None], 2)["frames"], 70)


if __name__ == "__main__":
    unittest.main()
