"""tests/upgrade."""
