"""The database that all of them run on, reached as a real one is: by a name that a name server knows, over TLS, by a certificate of
an authority that the root has or has not.
"""

import argparse
import contextlib
import os
import secrets
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import cluster as kit

NAME = "database.test"
NAME_SERVER = "127.0.0.53" if not Path("/run/systemd/resolve").exists() else "127.0.0.77"
WITHIN = 30  # seconds, for a server to be ready and for a row to arrive


class Missing(Exception):
    """What a part needs and this machine has not."""


class Stage:
    """The files, a folder to work in, a Postgres."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, files: Path, folder: Path) -> None:
        self.stack, self.files, self.folder = stack, files, folder
        self.linked: Path = arguments.rowcast
        self.debian: str = arguments.debian
        self.cluster = kit.Cluster(stack, arguments, fsync="off")
        self.port = kit.free_port()
        self.authority = self._authority()
        data = self.cluster.data
        settings = {"listen_addresses": "*", "port": self.port, "ssl": "on"}
        settings |= {"ssl_cert_file": f"{data}/server.crt", "ssl_key_file": f"{data}/server.key"}
        self.cluster.psql(*(f"alter system set {name} = '{value}'" for name, value in settings.items()))
        # containers come from a network of Docker's
        with open(data / "pg_hba.conf", "a", encoding="utf-8") as access:
            access.write("host all all 172.16.0.0/12 trust\n")
        self.cluster.stop()
        self.cluster.env["PGPORT"] = str(self.port)
        self.cluster.start()
        self.plain = f"postgres://{kit.USER}@localhost:{self.port}/{kit.DATABASE}"
        self.verified = f"postgres://{kit.USER}@{NAME}:{self.port}/{kit.DATABASE}?sslmode=verify-full"
        self.served: tuple[str, str] | None = None

    def file(self, pattern: str) -> Path:
        """The one file of that name."""
        found = sorted(self.files.glob(pattern))
        if len(found) != 1:
            raise kit.Failure(f"{len(found)} files are {pattern} in {self.files}")
        return found[0]

    def fresh(self) -> None:
        """The schema as one that rowcast has never seen."""
        self.cluster.psql("drop table if exists pets")
        if self.cluster.psql("select to_regnamespace('rowcast') is not null") == "t":
            self.cluster.psql("select rowcast.uninstall()")
        self.cluster.psql("create table pets (pet_id int primary key, name text)")

    def migrate(self) -> None:
        kit.run([self.linked, "migrate"], env={**self.cluster.env, "DATABASE_URL": self.plain})

    def watch(self) -> None:
        self.cluster.psql("select rowcast.watch('pets')")

    def arrives(self, base: str) -> None:
        """A row that is written is told at once."""
        name = f"pet-{secrets.token_hex(4)}"
        with open_url(f"{base}/sse/pets") as stream:
            stream.readline()  # it is subscribed
            self.cluster.psql(f"insert into pets select coalesce(max(pet_id), 0) + 1, '{name}' from pets")
            deadline = time.monotonic() + WITHIN
            while name.encode() not in stream.readline():
                if time.monotonic() > deadline:
                    raise kit.Failure(f"{base} did not tell a row within {WITHIN} s")

    @contextlib.contextmanager
    def serving(self, command: Sequence[str | Path], address: str, **options: Any) -> Iterator[str]:
        """A server that this starts, once it is live."""
        log = self.folder / f"served-{secrets.token_hex(4)}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [*map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options
            )
        try:
            wait_until_ready(address, lambda: process.poll() is None, lambda: kit.tail(log))
            yield address
        finally:
            kit.stop(process, 15, "rowcast serve", 30)

    def _authority(self) -> Path:
        """Its certificate. The server's own is signed by it."""
        folder = self.folder / "authority"
        folder.mkdir()
        new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rowcast test authority"]
        kit.run([*new, "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt"], cwd=folder)
        kit.run(
            [
                "openssl",
                "req",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                f"/CN={NAME}",
                "-keyout",
                "server.key",
                "-out",
                "server.csr",
            ],
            cwd=folder,
        )
        (folder / "names").write_text(f"subjectAltName=DNS:{NAME}\n", encoding="utf-8")
        signed = [
            "openssl",
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
        ]
        kit.run([*signed, "-days", "2", "-extfile", "names", "-out", "server.crt"], cwd=folder)
        owner = os.stat(self.cluster.data)
        for name in ("server.key", "server.crt"):
            place = self.cluster.data / name
            place.write_bytes((folder / name).read_bytes())
            place.chmod(0o600)
            os.chown(place, owner.st_uid, owner.st_gid)
        return folder / "ca.crt"


def unpack(archive: Path, into: Path) -> Path:
    """The one folder that an archive has."""
    into.mkdir()
    kit.run(["tar", "--directory", into, "--extract", "--file", archive])
    return next(into.iterdir())


def open_url(url: str) -> Any:
    """Not through a proxy of the environment."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=WITHIN)


def wait_until_ready(base: str, lives: Any, said: Any, within: float = WITHIN) -> None:
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError), open_url(f"{base}/readyz") as answer:
            if answer.status == 200:
                return
        if not lives() or time.monotonic() > deadline:
            raise kit.Failure(f"{base} did not become ready:\n{said()}")
        time.sleep(0.05)


@contextlib.contextmanager
def name_server() -> Iterator[str]:
    """One that knows NAME alone, at an address of this machine's loopback: for /etc/resolv.conf of a root."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind((NAME_SERVER, 53))
        except OSError as error:
            raise Missing(f"no name server can run at {NAME_SERVER}: {error}") from error
        server.settimeout(0.2)
        ended = threading.Event()
        answering = threading.Thread(target=answer_names, args=(server, ended))
        answering.start()
        try:
            yield f"nameserver {NAME_SERVER}\n"
        finally:
            ended.set()
            answering.join()


def answer_names(server: socket.socket, ended: threading.Event) -> None:
    wanted = b"".join(bytes([len(part)]) + part.encode() for part in NAME.split(".")) + b"\0"
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            asked, sender = server.recvfrom(512)
            end = asked.index(b"\0", 12) + 5
            kind = struct.unpack(">H", asked[end - 4 : end - 2])[0]
            known = asked[12 : end - 4].lower() == wanted
            # an answer, recursion available; no error, or no such name
            found = known and kind == 1
            head = asked[:2] + struct.pack(">5H", 0x8180 if known else 0x8183, 1, int(found), 0, 0)
            record = struct.pack(">3HIH4B", 0xC00C, 1, 1, 60, 4, 127, 0, 0, 1) if found else b""
            server.sendto(head + asked[12:end] + record, sender)
