"""A judge that finds nothing is worth something only where it would have found something."""

import unittest
from types import SimpleNamespace
from typing import Any

from harness.crashes import judgement
from harness.report import percentile, table
from harness.soak.subscription import Ids

# id, transaction, when, key of the row, its version
CHANGES = [(1, "10", "a", 7, 1), (2, "10", "a", 8, 1), (3, "11", "b", 7, 2)]


def verdict(heard: list[tuple[Any, ...]], gaps: tuple[str, ...] = (), last: bool = True) -> judgement.Verdict:
    """What is said of a subscriber that was live all the time and heard this."""
    truth = judgement.Truth.__new__(judgement.Truth)
    truth.changes, truth._known = CHANGES, set(CHANGES)
    stream = SimpleNamespace(
        place=None, told={"recovered": False}, gaps=list(gaps), ended="", base=0, changes=heard, has=lambda _: last
    )
    return judgement.judge(stream, truth, 3)


class Crashes(unittest.TestCase):
    """harness.crashes.judgement"""

    def test_a_subscriber_that_heard_all_of_it_once_and_in_order_is_content(self) -> None:
        self.assertEqual(verdict(CHANGES).mistakes, [])

    def test_what_is_missing_twice_invented_or_late_is_a_mistake(self) -> None:
        for heard, said in (
            (CHANGES[:1] + CHANGES[2:], "1 of 3 in the outbox and not delivered"),
            (CHANGES + CHANGES[1:2], "1 of 3 delivered more than once"),
            ([*CHANGES, (4, "12", "c", 9, 1)], "1 of 3 delivered and not in the outbox"),
            ([CHANGES[2], CHANGES[0], CHANGES[1]], "1 of 3 behind a later version of its row"),
        ):
            with self.subTest(said):
                (mistake,) = verdict(heard).mistakes
                self.assertTrue(mistake.startswith(said), mistake)

    def test_a_gap_excuses_what_is_missing_but_not_silence(self) -> None:
        self.assertEqual(verdict([], gaps=("failover",)).mistakes, [])
        self.assertIn("the last change never came", verdict([], gaps=("failover",), last=False).mistakes[0])


class Sets(unittest.TestCase):
    """harness.soak.subscription.Ids"""

    def test_an_id_is_new_once(self) -> None:
        ids = Ids()
        self.assertTrue(ids.add(70_000))
        self.assertFalse(ids.add(70_000))
        self.assertEqual(len(ids), 1)

    def test_the_difference_counts_all_and_names_the_first_five(self) -> None:
        self.assertEqual(Ids(range(0, 90, 3)).without(Ids(range(0, 90, 6))), (15, [3, 9, 15, 21, 27]))
        self.assertEqual(Ids([1]).without(Ids([1, 2])), (0, []))


class Figures(unittest.TestCase):
    """harness.report"""

    def test_a_percentile_is_a_value_that_was_measured(self) -> None:
        self.assertEqual([percentile([1, 2, 3, 4], share) for share in (0.5, 0.75, 0.99, 0)], [2, 3, 4, 1])

    def test_a_table_is_markdown(self) -> None:
        self.assertEqual(table(["", "count"], [("lost", 0)]), "|  | count |\n| --- | ---: |\n| lost | 0 |")
