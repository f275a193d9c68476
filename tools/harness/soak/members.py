"""--members: who may see a row stands in a table, and members come and go while nodes fail. At each cut of a socket its rows are
those that its holder may see by the members of that cut.

Owns the tables, writers and subscribers of that run. A trigger of the test copies each note, in the note's transaction, to a
table that everybody may see; so a client has all that it needs to tell which notes it has to have: the copies, the members, and
the notes that rowcast shows it.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import random
import selectors
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from harness import cluster as kit
from harness import report
from harness.websocket import ProtocolError, Refused, WebSocket

from . import verdict
from .faults import Faults, Node, kinds_of
from .workload import Crew, open_transactions, transaction

SECRET = "of the soak, and of nothing else"
TEAMS = 12
# members of the table who are connected, and one who is never a member
HOLDERS = ("ann", "bob", "cem", "dee", "nobody")
KEYS = {"notes": ("id",), "copies": ("id",), "members": ("member", "team")}
TABLES = f"""
    create table notes (id int generated always as identity primary key, team int not null, n int not null);
    create table copies (id int primary key, team int not null, n int not null);
    create table members (member text, team int, primary key (member, team));
    create function copy_note() returns trigger language plpgsql as $$
    begin
      if tg_op = 'TRUNCATE' then truncate copies; return null; end if;
      if tg_op = 'DELETE' then delete from copies where id = old.id; return null; end if;
      insert into copies values (new.id, new.team, new.n)
        on conflict (id) do update set team = excluded.team, n = excluded.n;
      return null;
    end $$;
    create trigger copied after insert or update or delete on notes for each row execute function copy_note();
    create trigger copied_whole after truncate on notes execute function copy_note();
    insert into notes (team, n) select g % {TEAMS}, 1 from generate_series(1, 300) g;
    insert into members select (array['ann', 'bob', 'cem', 'dee'])[1 + g % 4], g from generate_series(0, {TEAMS - 1}) g;
    select rowcast.watch('public.notes'), rowcast.watch('public.copies'), rowcast.watch('public.members');
    select rowcast.claim('teams', 'select m.team from public.members m where m.member = {{sub}}');
    select rowcast.allow('notes', 'member', 'team=in.{{teams}}'), rowcast.allow('copies', 'member'), rowcast.allow('members', 'member');
"""


# What is written -------------------------------------------------------------------------------------------------


def holder(rng: random.Random) -> str:
    """Sometimes a member who is not connected."""
    return rng.choice((*HOLDERS[:4], "eve"))


def join(rng: random.Random) -> str:
    return f"insert into members values ('{holder(rng)}', {rng.randrange(TEAMS)}) on conflict do nothing;"


def leave(rng: random.Random) -> str:
    return f"delete from members where member = '{holder(rng)}' and team = {rng.randrange(TEAMS)};"


def swap(rng: random.Random) -> str:
    """Two holders have each other's memberships, by way of a third name."""
    one, other = rng.sample(HOLDERS[:4], 2)
    return transaction(
        [
            "lock table members in share row exclusive mode;",
            f"update members set member = 'nobody else' where member = '{one}';",
            f"update members set member = '{one}' where member = '{other}';",
            f"update members set member = '{other}' where member = 'nobody else';",
        ]
    )


def away_and_back(rng: random.Random) -> str:
    """In two transactions, with a note in between that is none of the holder's business."""
    who, team = holder(rng), rng.randrange(TEAMS)
    return (
        f"delete from members where member = '{who}' and team = {team};\n"
        f"update notes set n = n + 1 where team = {team};\n"
        f"insert into members values ('{who}', {team}) on conflict do nothing;"
    )


def many(rng: random.Random) -> str:
    return f"insert into members select 'of many ' || g, g % {TEAMS} from generate_series(1, {rng.randrange(500, 3000)}) g on conflict do nothing;"


def fewer(_rng: random.Random) -> str:
    return "delete from members where member like 'of many %';"


def renew(rng: random.Random) -> str:
    """As a job does that fills the table anew; it has its lock at once or not at all."""
    rows = ", ".join(f"('{who}', {team})" for who in HOLDERS[:4] for team in rng.sample(range(TEAMS), 3))
    return transaction(
        ["set local lock_timeout = '300ms';", "truncate members;", f"insert into members values {rows};", write(rng)]
    )


def empty(_rng: random.Random) -> str:
    return transaction(
        [
            "set local lock_timeout = '300ms';",
            "truncate notes;",
            "insert into notes (team, n) select g % 12, 1 from generate_series(1, 200) g;",
        ]
    )


def write(rng: random.Random) -> str:
    return rng.choice(
        (
            f"insert into notes (team, n) values ({rng.randrange(TEAMS)}, 1);",
            f"update notes set n = n + 1 where id % 50 = {rng.randrange(50)};",
            f"update notes set team = {rng.randrange(TEAMS)}, n = n + 1 where id % 100 = {rng.randrange(100)};",
            f"delete from notes where id in (select id from notes where id % 7 = {rng.randrange(7)} order by id limit 2);",
        )
    )


def together(rng: random.Random) -> str:
    """Members and notes in one transaction, which is given up now and then."""
    statements = [rng.choice((join, leave, write))(rng) for _ in range(rng.randint(2, 6))]
    return transaction(statements, end="rollback" if rng.random() < 0.2 else "commit")


def bulk(rng: random.Random) -> str:
    return transaction([f"update notes set n = n + 1 where id % 3 = {rng.randrange(3)};", join(rng)])


CREW = (
    (2, 0.03, (write,)),
    (2, 0.06, (together, together, join, leave)),
    (1, 0.7, (swap, away_and_back, away_and_back)),
    (1, 3, (many, fewer, renew, bulk)),
    (1, 12, (empty,)),
)


# What listens ----------------------------------------------------------------------------------------------------


class Listener:
    """One socket of one holder on all three channels."""

    def __init__(self, crowd: "Crowd", number: int, holder: str, wants_cuts: bool, rng: random.Random) -> None:
        self.number, self.holder, self.wants_cuts = number, holder, wants_cuts
        self._crowd, self._rng = crowd, rng
        self.rows: dict[str, dict[Any, Any]] = {}  # of each channel that it has wholly
        self.joined: set[str] = set()
        self._places: dict[str, str] = {}
        self._loading: dict[str, dict[Any, Any]] = {}
        self._leaving: set[str] = set()
        self.socket: WebSocket | None = None
        self.due, self._leaves_at = 0.0, float("inf")
        self.journal: deque[str] = deque(maxlen=60)

    def _note(self, text: str) -> None:
        self.journal.append(f"{time.monotonic() - self._crowd.began:7.2f} s  {text}")

    def tick(self, now: float) -> None:
        if self.socket is None and now >= self.due:
            self._connect(now)
        elif self.socket is not None and now >= self._leaves_at:
            self.hang_up(now, 1.0)

    def _connect(self, now: float) -> None:
        node = self._rng.choice(self._crowd.nodes)
        self.joined, self._loading, self._leaving = set(), {}, set()
        try:
            self.socket = WebSocket(
                node.host, node.port, f"/ws?{'cuts=true&' if self.wants_cuts else ''}token={token(self.holder)}", 3
            )
            for channel in KEYS:
                self._subscribe(channel, resumes=self._rng.random() < 0.8)
        except (OSError, ProtocolError) as error:
            if isinstance(error, Refused) and error.status not in ("503", "429"):
                self._crowd.complain(str(error))
            self.hang_up(now, 0.5)
            return
        self._crowd.tally["connections"] += 1
        self._note(f"connected to {node.name}")
        self._crowd.selector.register(self.socket.sock, selectors.EVENT_READ, self)
        self._leaves_at = now + self._rng.expovariate(1 / 8) if self._crowd.comes_and_goes else float("inf")

    def _subscribe(self, channel: str, resumes: bool) -> None:
        since = self._places.get(channel) if resumes and channel in self.rows else None
        if since is None:
            self.rows.pop(channel, None)
        wish = {"since": since} if since else {"snapshot": True}
        self._note(f"subscribes to {channel} {since or 'anew'}")
        self._send({"type": "subscribe", "channel": channel, **wish, "ref": channel})

    def _send(self, command: dict[str, Any]) -> None:
        assert self.socket
        with contextlib.suppress(OSError):  # that it is broken is noticed where it is read
            self.socket.send(json.dumps(command))

    def hang_up(self, now: float, after: float) -> None:
        if self.socket is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._crowd.selector.unregister(self.socket.sock)
            self.socket.sock.close()
        self.socket, self._leaves_at = None, float("inf")
        self.due = now + self._rng.uniform(0, after)

    def read(self) -> None:
        assert self.socket
        try:
            texts = self.socket.feed(self.socket.sock.recv(1 << 18))
        except OSError:
            texts, self.socket.closed = [], (1006, "")
        for text in texts:
            if self.socket is None:
                return
            self._hear(json.loads(text))
        if self.socket and self.socket.closed:
            code, reason = self.socket.closed
            self._crowd.tally[f"closed by the server: {code}"] += 1
            if code not in (1001, 1006, 4408, 4503):
                self._crowd.complain(f"{self.holder}: closed with {code}: {reason}")
            self.hang_up(time.monotonic(), 0.3)

    def _hear(self, message: dict[str, Any]) -> None:
        kind, tally = message["type"], self._crowd.tally
        if kind in ("subscribed", "gap", "cut") or kind == "realtime_update" and message["entity_type"] == "notes":
            said = [
                f"{name}={message[name]}"
                for name in ("action", "data", "reason", "recovered", "replayed", "tx", "cursor")
                if name in message
            ]
            self._note(f"{kind} {message.get('entity_type') or message.get('channel', '')} {' '.join(said)}")
        channel = message.get("entity_type") or message.get("channel")
        if channel in self._leaving:
            # what still comes is of the subscription that ends
            if kind == "unsubscribed":
                self._leaving.remove(channel)
                self._subscribe(channel, resumes=False)
            return
        if kind == "realtime_update":
            tally["messages"] += 1
            tally["told for a membership"] += message["tx"] == "0"
            self._apply(channel, message)
        elif kind == "snapshot":
            self._load(channel, message)
        elif kind == "subscribed":
            self.joined.add(channel)
            tally["resumed"] += message["recovered"]
        elif kind == "gap":
            tally[f"gap: {message['reason']}, {'in the stream' if channel in self.joined else 'at a resume'}"] += 1
            self._reload(channel)
            return
        elif kind == "error" and message["code"] != "source_down":
            self._crowd.complain(f"{self.holder}: {message}")
        if channel in self.rows and message.get("cursor") and channel not in self._loading:
            self._places[channel] = message["cursor"]
        if kind == "cut" and "channel" not in message:
            self._compare(message)

    def _reload(self, channel: str) -> None:
        """Loads again on this socket."""
        self.rows.pop(channel, None)
        self._places.pop(channel, None)
        self._loading.pop(channel, None)
        self.joined.discard(channel)
        self._leaving.add(channel)
        self._send({"type": "unsubscribe", "channel": channel})

    def _load(self, channel: str, message: dict[str, Any]) -> None:
        loading = self._loading.setdefault(channel, {})
        for row in message["rows"]:
            loading[key_of(channel, row)] = row
        if message["last"]:
            self.rows[channel] = self._loading.pop(channel)
            self._crowd.tally["snapshots"] += 1

    def _apply(self, channel: str, message: dict[str, Any]) -> None:
        rows = self.rows.get(channel)
        if rows is None:
            return
        action, row = message["action"], message["data"]
        if action == "truncated":
            rows.clear()
            return
        if action == "updated" and "old" in message:
            rows.pop(key_of(channel, {**row, **message["old"]}), None)
        if action in ("deleted", "left"):
            rows.pop(key_of(channel, row), None)
        else:
            rows[key_of(channel, row)] = row

    def _compare(self, message: dict[str, Any]) -> None:
        if "cursor" in message:
            self._places.update({channel: message["cursor"] for channel in self.joined & self.rows.keys()})
        if self.joined == KEYS.keys() and self.rows.keys() == KEYS.keys() and not self._loading:
            self._crowd.tally["cuts compared"] += 1
            if text := self.difference():
                self._crowd.complain(f"listener {self.number}, {self.holder}, at a cut: {text}", self.journal)

    def difference(self) -> str:
        """How its notes differ from those that it has to have; empty where they do not."""
        teams = {row["team"] for row in self.rows["members"].values() if row["member"] == self.holder}
        wanted = {key: row for key, row in self.rows["copies"].items() if row["team"] in teams}
        notes = self.rows["notes"]
        if notes == wanted:
            return ""
        missing, besides = wanted.keys() - notes.keys(), notes.keys() - wanted.keys()
        other = [key for key in notes.keys() & wanted.keys() if notes[key] != wanted[key]]
        return f"{len(missing)} notes are missing, {len(besides)} are there besides, {len(other)} are others: {[*missing, *besides, *other][:5]}"

    def has(self, tables: dict[str, dict[Any, Any]]) -> bool:
        """Whether it has what the database has."""
        return (
            self.joined == KEYS.keys()
            and self.rows.keys() == KEYS.keys()
            and all(self.rows[channel] == tables[channel] for channel in ("copies", "members"))
            and not self.difference()
        )


class Crowd:
    """All listeners, and what became of them."""

    def __init__(self, stack: contextlib.ExitStack, nodes: list[Node], seed: int) -> None:
        self.nodes, self.tally, self.complaints = nodes, Counter[Any](), list[str]()
        self.comes_and_goes, self.began = True, time.monotonic()
        self.selector = selectors.DefaultSelector()
        self.listeners = [
            Listener(self, number, who, number % 3 != 2, random.Random(f"{seed}/listener/{number}"))
            for number, who in enumerate(who for who in HOLDERS for _ in range(6))
        ]
        stack.callback(self.selector.close)

    def complain(self, text: str, journal: Iterable[str] = ()) -> None:
        """Keeps what no correct server does, with what its listener was told before."""
        self.tally["complaints"] += 1
        if len(self.complaints) < 20:
            self.complaints.append("\n  ".join([text[:600], *journal]))

    def pump(self, seconds: float, until: Any = lambda: False) -> bool:
        """Listens for so long, or until something holds; whether it holds."""
        deadline = time.monotonic() + seconds
        while not (done := until()) and time.monotonic() < deadline:
            for key, _ in self.selector.select(0.01):
                key.data.read()
            for listener in self.listeners:
                listener.tick(time.monotonic())
        return done


def key_of(channel: str, row: dict[str, Any]) -> Any:
    return tuple(row[column] for column in KEYS[channel])


def token(sub: str, role: str = "member") -> str:
    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"sub": sub, "role": role, "exp": int(time.time()) + 86_400}
    text = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{text}.{encoded(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


def run(stack: contextlib.ExitStack, cluster: kit.Cluster, arguments: Any, seed: int, settings: dict[str, str]) -> int:
    """The run, and its report; the exit code."""
    cluster.psql(TABLES)
    rng = random.Random(f"{seed}/members")
    nodes = [
        Node(stack, cluster, number, {**settings, "ROWCAST_JWT_SECRET": SECRET}, rng)
        for number in range(arguments.nodes or 2)
    ]
    for node in nodes:
        node.start()
    crowd = Crowd(stack, nodes, seed)
    if not crowd.pump(30, until=lambda: all(listener.joined == KEYS.keys() for listener in crowd.listeners)):
        raise kit.Failure(f"not every listener has joined within 30 s: {crowd.complaints} {kit.tail(nodes[0].log, 5)}")
    crew = Crew(stack, cluster, seed, False, CREW)
    faults = Faults(stack, cluster, nodes, kinds_of(arguments.faults, None), seed, arguments.seconds, crowd.complain)
    crew.start()
    faults.start()
    for passed in range(0, arguments.seconds, 10):
        crowd.pump(min(10, arguments.seconds - passed))
        kit.note(
            f"{min(passed + 10, arguments.seconds)} s: {crew.transactions():,} transactions, {crowd.tally['messages']:,} messages, "
            f"{crowd.tally['cuts compared']:,} cuts compared, {sum(faults.counts.values())} faults"
        )
    crew.leave()
    faults.leave()
    if not crowd.pump(30, until=lambda: not crew.at_work() and not faults.is_alive()):
        crew.abandon()
    crowd.comes_and_goes = False
    if not crowd.pump(30, until=lambda: open_transactions(cluster) == 0):
        raise kit.Failure("a writer's transaction is still open")
    tables = {
        channel: {
            key_of(channel, row): row
            for row in map(json.loads, cluster.psql(f"select row_to_json(t) from {channel} t").splitlines())
        }
        for channel in KEYS
    }
    if not crowd.pump(60, until=lambda: all(listener.has(tables) for listener in crowd.listeners)):
        for listener in crowd.listeners:
            if not listener.has(tables):
                crowd.complain(
                    f"listener {listener.number}, {listener.holder}, in the end: joined {sorted(listener.joined)}, "
                    f"{ {channel: len(rows) for channel, rows in listener.rows.items()} }"
                )
    return conclude(nodes, crowd, crew, faults)


def conclude(nodes: list[Node], crowd: Crowd, crew: Crew, faults: Faults) -> int:
    """The report; the exit code."""
    verdict.judge_programs(nodes, crew, crowd.complain)
    rows = [
        ("transactions of the writers", crew.transactions()),
        *sorted(crowd.tally.items()),
        *((f"fault: {name}", count) for name, count in sorted(faults.counts.items()) if count),
    ]
    print(report.table(["", "count"], [(name, f"{count:,}") for name, count in rows]))
    wrong = crowd.tally["complaints"] + (crowd.tally["cuts compared"] == 0)
    print(f"\n{'Nothing is wrong.' if not wrong else f'{wrong:,} MISTAKES.'}")
    for complaint in crowd.complaints:
        kit.note(f"complaint: {complaint}")
    if wrong:
        for node in nodes:
            kit.note(f"\nthe end of {node.name}'s log:\n{kit.tail(node.log)}")
    return 1 if wrong else 0
