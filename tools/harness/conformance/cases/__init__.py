"""The cases, by what they are about."""

from . import closes, cuts, gaps, refusals, resume, rows, snapshots, tokens, views  # noqa: F401
