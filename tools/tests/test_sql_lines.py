"""What breaks lines of SQL changes nothing that Postgres reads."""

import unittest

from harness.repository import ROOT
from harness.sql_lines import WIDTH, fixed, long_lines, tokens

LONG = "and " * 40 + "true"


class Breaking(unittest.TestCase):
    """harness.sql_lines"""

    def test_the_files_are_short_enough(self) -> None:
        self.assertEqual(long_lines(sorted((ROOT / "sql").rglob("*.sql"))), [])

    def test_a_line_is_broken_at_its_clauses_and_says_the_same(self) -> None:
        columns = ", ".join(f"column_{number}" for number in range(12))
        text = f"select {columns} from public.pets p join public.owners o on o.id = p.owner where p.name <> 'a -- b'\n"
        made = fixed(text)
        self.assertEqual(tokens(made), tokens(text))
        self.assertLessEqual(max(map(len, made.splitlines())), WIDTH)
        self.assertIn("\n  from public.pets p\n  join public.owners o", made)

    def test_a_text_is_parted_so_that_it_stays_one(self) -> None:
        text = f"comment on view x is '{'a word or two ' * 20}end';\n"
        made = fixed(text)
        self.assertEqual(tokens(made), tokens(text))
        self.assertGreater(len(made.splitlines()), 2)

    def test_other_words_are_other_tokens(self) -> None:
        self.assertEqual(tokens("select a -- b\n, c"), ["select", "a", ",", "c"])
        self.assertNotEqual(tokens("select 'a' 'b'"), tokens("select 'ab'"))
        self.assertEqual(tokens("select 'a'\n  'b'"), tokens("select 'ab'"))

    def test_what_cannot_be_broken_stays(self) -> None:
        text = f"select '{'x' * 200}';\n"
        self.assertEqual(fixed(text), text)
