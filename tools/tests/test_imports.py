"""How the modules of our Python packages use each other, types too."""

import ast
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "tools" / "harness", ROOT / "client-python" / "src" / "rowcast")


def imports_of(package: Path) -> dict[str, set[str]]:
    """Module → the modules of the package that it imports. A package's own `__init__` hands names on, and is none."""
    files = {".".join(file.relative_to(package.parent).with_suffix("").parts): file for file in package.rglob("*.py")}
    modules = {name: file for name, file in files.items() if not name.endswith("__init__")}
    used = {}
    for name, file in modules.items():
        named = set[str]()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parent = ".".join(name.split(".")[: -node.level]) + "." if node.level else ""
                base = (parent + (node.module or "")).rstrip(".")
                named |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        used[name] = (named & modules.keys()) - {name}
    return used


def circle(used: dict[str, set[str]]) -> list[str]:
    """A way from a module to itself; empty where there is none."""
    for start in used:
        ways = {module: [start, module] for module in used[start]}
        todo = list(ways)
        while todo:
            module = todo.pop()
            if module == start:
                return ways[module]
            for further in used[module] - ways.keys():
                ways[further] = [*ways[module], further]
                todo.append(further)
    return []


class Imports(unittest.TestCase):
    def test_no_modules_import_each_other_in_a_circle(self) -> None:
        for package in PACKAGES:
            used = imports_of(package)
            self.assertGreater(sum(map(len, used.values())), 9, package)
            self.assertEqual(circle(used), [])

    def test_a_circle_is_found(self) -> None:
        self.assertEqual(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}), ["b", "c", "b"])
