"""What tokens and policies cost: CPU time of a handshake, of a delivery with rights against without, and of a change
where each of many users sees only own rows."""

import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import statistics
import subprocess
import tempfile
import time
from typing import Any

from harness import cluster as kit
from harness import report
from harness.bench import fanout, loads
from harness.repository import ROOT

KEYS = ROOT / "tests/keys"
SECRET = "a secret that only the benchmark knows"
ROLES = 10


PATH = "/ws/fan?token={token}"


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="rows are written in each run (default: 4)")
    loads.add_argument(parser)
    parser.add_argument(
        "--quick", action="store_true", help="one round, 1 s each, a tenth of the sockets: to see that it works"
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    loads.check(arguments.load)
    cpus, files = fanout.pin(), fanout.raise_file_limit()
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, autovacuum="off")
    cluster.rowcast("migrate")
    cluster.psql(*fanout.TABLES)
    for role in range(ROLES):
        # each sees every row, by another filter: a view of its own
        cluster.psql(f"select rowcast.allow('fan', 'role{role}', 'publisher=gte.{-role}')")
    cluster.psql("select rowcast.allow('fan', 'owner', 'owner=eq.{sub}')")
    bench = Access(cluster, arguments, cpus, files)
    lines = [*bench.handshakes(), *bench.policies(), *bench.own_rows()]
    print(report.table(["what", "CPU µs", "ratio"], lines))
    print(
        f"\n- {'Nothing was lost, repeated, out of order or told to others.' if not bench.wrong else f'{bench.wrong} FAULTS: see stderr.'} "
        f"Each figure is the median of {arguments.rounds} rounds (least-greatest)."
    )
    print(
        f"- {f'The server had CPU {cpus[0]}, everything else CPU {cpus[1]}' if cpus else 'Nothing was pinned to a CPU'}; open files: {files:,} each."
    )
    print(report.origin(cluster, load))
    return 1 if bench.wrong else 0


class Access(fanout.Bench):
    """Runs of rowcast alone, with and without a key."""

    def __init__(self, cluster: kit.Cluster, arguments: argparse.Namespace, cpus: Any, files: Any) -> None:
        super().__init__(cluster, arguments, {}, cpus, files)
        self.wrong = 0

    def measure(self, title: str, flags: Any, run: Any, key: Any) -> Any:
        """The figure of each round."""
        return [line[key] for line in self.lines(title, flags, run, key)]

    def lines(self, title: str, flags: Any, run: Any, *shown: str) -> list[Any]:
        """The figures of each round, of which some are told at once."""
        found = []
        for number in range(self.arguments.rounds):
            self.cluster.psql("truncate public.fan restart identity", "checkpoint")
            self.cluster.clear_outbox()
            with contextlib.ExitStack() as stack:
                line = run(self.serve(stack, *flags))
            wrong = fanout.faults_of(line)
            self.wrong += sum(wrong.values())
            kit.note(
                f"round {number + 1}/{self.arguments.rounds}  {title}: "
                + ", ".join(f"{key} {line[key]:g}" for key in shown)
                + (f"  FAULTS: {wrong}" if wrong else "")
            )
            found.append(line)
        return found

    def serve(self, stack: contextlib.ExitStack, *flags: Any) -> "Server":
        """One more server, until the end of the stack."""
        with self.on_server_cpu():
            return stack.enter_context(Server(self.cluster, *flags))

    def tokens(self, name: str, claims: Any, sign: Any) -> Any:
        """A file with a token for each of the claims, good for an hour."""
        return self.cluster.file(
            name, "".join(sign({"exp": int(time.time()) + 3600, **claim}) + "\n" for claim in claims)
        )

    def against(self, runs: Any) -> list[Any]:
        """Lines of the table: the first run is what the others are compared with."""
        base = statistics.median(runs[0][1])
        return [
            [title, report.spread(found, "{:.2f}".format), f"{statistics.median(found) / base:.2f}"]
            for title, found in runs
        ]

    def handshakes(self) -> Any:
        """Sockets are opened as fast as it goes; each handshake has its token checked, by a key that is in memory."""
        sockets = self.scaled(5000)
        kinds = [
            ("no tokens", (), None),
            ("HS256", ("--jwt-secret", SECRET), hs256),
            ("RS256, 2,048 bits", ("--jwt-public-key", f"@{KEYS}/rsa.public.pem"), rs256),
            ("ES256", ("--jwt-public-key", f"@{KEYS}/p256.public.pem"), es256),
            ("EdDSA", ("--jwt-public-key", f"@{KEYS}/ed25519.public.pem"), eddsa),
        ]
        runs = []
        for title, flags, sign in kinds:
            path, options = "/ws/fan", []
            if sign:
                path, options = PATH, ["--tokens", self.tokens("one.tokens", [{"role": "role0"}], sign)]
            flags = (*flags, "--max-sockets-per-user", "0")
            runs.append(
                (
                    f"a handshake, {title}",
                    self.measure(
                        title,
                        flags,
                        lambda server: self.load("idle", server, sockets, "--hold", 0.1, *options, path=path),
                        "open_cpu_us_per_connection",
                    ),
                )
            )
        return self.against(runs)

    def policies(self) -> Any:
        """The same rows to the same number of sockets."""
        sockets, runs = self.scaled(1000), []
        tokens = self.tokens("roles.tokens", [{"role": f"role{role}"} for role in range(ROLES)], hs256)
        for title, flags, path, options in (
            ("no policies", (), "/ws/fan", []),
            (f"{ROLES} roles with a filter each", ("--jwt-secret", SECRET), PATH, ["--tokens", tokens]),
        ):
            runs.append(
                (
                    f"a delivery, {sockets:,} sockets flat out, {title}",
                    self.measure(
                        title,
                        flags,
                        lambda server: self.fanout(
                            server, sockets, server.feed(2, 8), "--window", 32, *options, path=path
                        ),
                        "cpu_us_per_delivery",
                    ),
                )
            )
        return self.against(runs)

    def own_rows(self) -> Any:
        """100 changes a second, each for one user."""
        runs = []
        for full in (100, 5000):
            users = self.scaled(full)
            tokens = self.tokens("users.tokens", [{"role": "owner", "sub": str(user)} for user in range(users)], hs256)
            runs.append(
                (
                    f"a change, {users:,} users who see own rows, 100 changes/s",
                    self.measure(
                        f"{users:,} users",
                        ("--jwt-secret", SECRET),
                        lambda server: self.fanout(
                            server,
                            users,
                            server.feed(1, 1),
                            "--rate",
                            100,
                            "--tokens",
                            tokens,
                            "--addressed",
                            path=PATH,
                        ),
                        "cpu_us_per_message",
                    ),
                )
            )
        return self.against(runs)


class Server(fanout.Rowcast):
    """rowcast with flags of its own."""

    def __init__(self, cluster: kit.Cluster, *flags: Any) -> None:
        kit.Relay.__init__(self, cluster, *flags)
        self._url = cluster.url


def hs256(claims: Any) -> str:
    text = signing_input("HS256", claims)
    return f"{text}.{encoded(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


def rs256(claims: Any) -> str:
    text = signing_input("RS256", claims)
    return f"{text}.{encoded(openssl('dgst', '-sha256', '-sign', KEYS / 'rsa.private.pem', text=text))}"


def es256(claims: Any) -> str:
    text = signing_input("ES256", claims)
    der = openssl("dgst", "-sha256", "-sign", KEYS / "p256.private.pem", text=text)
    return f"{text}.{encoded(halves(der))}"


def eddsa(claims: Any) -> str:
    text = signing_input("EdDSA", claims)
    with tempfile.NamedTemporaryFile() as file:  # this algorithm cannot read from a pipe
        file.write(text.encode())
        file.flush()
        return f"{text}.{encoded(openssl('pkeyutl', '-sign', '-rawin', '-inkey', KEYS / 'ed25519.private.pem', '-in', file.name))}"


def signing_input(algorithm: Any, claims: Any) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, claims)
    return ".".join(encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)


def encoded(data: Any) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments: Any, text: str = "") -> Any:
    try:
        done = subprocess.run(["openssl", *map(str, arguments)], input=text.encode(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise kit.Failure(f"openssl signs the tokens: {error}") from error
    return done.stdout


def halves(der: Any) -> bytes:
    """r and s of an ASN.1 signature, 32 bytes each, as a token has them (RFC 7518, section 3.4)."""
    numbers, at = [], 2
    for _ in range(2):
        length = der[at + 1]
        numbers.append(der[at + 2 : at + 2 + length].lstrip(b"\0").rjust(32, b"\0"))
        at += 2 + length
    return b"".join(numbers)


if __name__ == "__main__":
    kit.main(main)
