"""Random databases that nobody here designed, beside a twin without rowcast."""
