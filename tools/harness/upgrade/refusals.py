"""What does not go together is refused, with a remedy: a server on an older schema; on one that does not serve it any more; and
what an older node that still runs would not understand.

Owns what is to be said. Nothing here may change what the sockets of the fleet are told.
"""

from harness import cluster as kit

from .fleet import Fleet, Version

CLAIMS = 7  # the schema with which claims stand in tables; programs of an older one take them from tokens
STATE_CLAIM = (
    "create table if not exists teams (member text primary key, team int)",
    "select rowcast.claim('teams', 'select t.team from public.teams t where t.member = {sub}')",
)


def older_schema(fleet: Fleet, after: Version) -> None:
    """Before `migrate` of the new program there is nothing for it to do."""
    fleet.refused(after, "serve", "this rowcast needs", "run: rowcast migrate")


def no_way_back(fleet: Fleet, before: Version) -> None:
    """A version that knows nothing of schemas that serve it."""
    for command in ("migrate", "serve"):
        fleet.refused(before, command, "newer than this rowcast", "update rowcast")


def with_an_older_node(fleet: Fleet, before: Version) -> None:
    """A claim is not stated while a node runs that would take it from tokens."""
    if not predates_claims(fleet):
        return
    try:
        fleet.cluster.psql(*STATE_CLAIM)
    except kit.Failure as refused:
        fleet.tell(f"a claim is refused beside a node of {before.name}")
        if "upgrade all nodes first" not in str(refused):
            fleet.complain(f"a claim is refused without a remedy: {refused}")
        return
    fleet.complain(f"a claim was stated although a node of {before.name} runs")


def schema_that_serves_no_older(fleet: Fleet, before: Version, has_way_back: bool) -> int:
    """While a claim is stated there is no way back to a program that knows none. At the end of a run; how much is wrong."""
    known = len(fleet.mistakes)
    if predates_claims(fleet):
        # a node that has ended counts for half a minute
        fleet.cluster.psql("delete from rowcast.node where coalesce(knows, 0) < 7", *STATE_CLAIM)
        no_way_back(fleet, before)
        fleet.cluster.psql("select rowcast.drop_claim('teams')")
        if has_way_back:
            fleet.migrate(before, "was left as it is")
    return len(fleet.mistakes) - known


def predates_claims(fleet: Fleet) -> bool:
    return fleet.first_schema < CLAIMS
