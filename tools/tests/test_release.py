"""What is packed depends on nothing but its content, and the image runs as the Dockerfile says."""

import io
import tarfile
import unittest

from harness.release import image
from harness.release.release import Entry, compressed, tar
from harness.repository import ROOT


class Archives(unittest.TestCase):
    """tar() and compressed()"""

    def test_the_order_of_files_makes_no_difference(self) -> None:
        one, two = Entry("a/one", b"1"), Entry("a/b/two", b"2", 0o755)
        self.assertEqual(compressed(tar([one, two], 7)), compressed(tar([two, one], 7)))

    def test_folders_come_before_what_is_in_them_and_all_is_of_root(self) -> None:
        packed = tar([Entry("a/b/two", b"2", 0o755), Entry("link", link="a/b/two")], 7)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            members = archive.getmembers()
        self.assertEqual([member.name for member in members], ["a", "a/b", "a/b/two", "link"])
        self.assertEqual(
            {(member.uid, member.gid, member.uname, member.mtime) for member in members}, {(0, 0, "root", 7)}
        )
        self.assertEqual([member.mode for member in members[:3]], [0o755, 0o755, 0o755])


class Image(unittest.TestCase):
    """runs()"""

    def test_it_runs_as_the_last_stage_says(self) -> None:
        runs = image.runs(
            "FROM x AS b\nUSER 1:1\n\nFROM scratch\nUSER 2:3\nENV A=b C=d\nEXPOSE 80\n"
            'HEALTHCHECK --interval=10s --timeout=5s \\\n  --start-period=30s --retries=3 CMD ["p", "-h"]\n'
            'ENTRYPOINT ["p"]\nCMD ["serve"]\n'
        )
        self.assertEqual((runs["User"], runs["Env"], runs["ExposedPorts"]), ("2:3", ["A=b", "C=d"], {"80/tcp": {}}))
        self.assertEqual((runs["Entrypoint"], runs["Cmd"]), (["p"], ["serve"]))
        self.assertEqual((runs["Healthcheck"]["Test"], runs["Healthcheck"]["Interval"]), (["CMD", "p", "-h"], 10**10))

    def test_the_dockerfile_is_understood(self) -> None:
        self.assertEqual(image.runs((ROOT / "Dockerfile").read_text(encoding="utf-8"))["Entrypoint"], ["rowcast"])
