"""What ends a case before its end."""


class Failed(Exception):
    """The client did not do what the case's sentence says."""


class Unsupported(Exception):
    """The program has no such thing; the case is skipped."""
