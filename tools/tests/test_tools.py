"""What is fetched is fetched by one at a time."""

import threading
import time
import unittest

from harness.machinery import tools


class Fetching(unittest.TestCase):
    """tools.alone()"""

    def test_threads_take_turns(self) -> None:
        inside, most = 0, 0

        @tools.alone()
        def fetch() -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)  # long enough for another to come in
            inside -= 1

        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(most, 1)
