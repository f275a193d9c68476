"""A network namespace of the soak's own, and a wire into it for each node, which can be cut: whatever is on its way is
dropped without a word, as by a switch that has failed.

Owns names and addresses. Knows nothing of what runs inside.
"""

import contextlib
import os
import shutil
import subprocess
from typing import Any

from harness import cluster as kit


class Namespace:
    """Exists until the stack is closed."""

    def __init__(self, stack: contextlib.ExitStack, wires: Any) -> None:
        self._name = f"rowcast-{os.getpid()}"
        self._network = f"10.{100 + os.getpid() % 100}"
        self.enter = ("ip", "netns", "exec", self._name)  # before a command that is to run inside
        ip("netns", "add", self._name)
        stack.callback(ip, "netns", "delete", self._name)  # and its wires with it
        self._inside("link", "set", "lo", "up")
        for wire in range(wires):
            ip("link", "add", self._end(wire), "type", "veth", "peer", "name", f"wire{wire}", "netns", self._name)
            ip("address", "add", f"{self._network}.{wire}.1/30", "dev", self._end(wire))
            self._inside("address", "add", f"{self.address(wire)}/30", "dev", f"wire{wire}")
            ip("link", "set", self._end(wire), "up")
            self.mend(wire)

    @staticmethod
    def is_possible() -> bool:
        """Whether we may make one."""
        if os.geteuid() != 0 or not shutil.which("ip"):
            return False
        probe = f"rowcast-probe-{os.getpid()}"
        try:
            ip("netns", "add", probe)
            try:
                ip("-n", probe, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
            finally:
                ip("netns", "delete", probe)
        except kit.Failure:
            return False
        return True

    def address(self, wire: Any) -> str:
        """Where the inside is reached by this wire."""
        return f"{self._network}.{wire}.2"

    def cut(self, wire: Any) -> None:
        """Nothing passes any more; those who speak are not told."""
        self._inside("link", "set", f"wire{wire}", "down")

    def mend(self, wire: Any) -> None:
        self._inside("link", "set", f"wire{wire}", "up")

    def _end(self, wire: Any) -> str:
        return f"rc{os.getpid()}.{wire}"

    def _inside(self, *words: Any) -> None:
        ip("-n", self._name, *words)


def ip(*words: Any) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise kit.Failure(f"ip {' '.join(words)}: {done.stderr.strip()}")
