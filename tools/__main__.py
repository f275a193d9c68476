"""Runs a program of the package `harness` under the name that it is called by: `python3 tools tests/soak --help`.

`tests/NAME` is harness/NAME, `benches/NAME` is harness/bench/NAME. The scripts there do nothing but call this one.
"""

import runpy
import sys
from pathlib import Path

program = Path(sys.argv[1])
# what is printed as the program's name
sys.argv = sys.argv[1:]
folder = "harness.bench" if program.parent.name == "benches" else "harness"
runpy.run_module(f"{folder}.{program.name.replace('-', '_')}", run_name="__main__")
