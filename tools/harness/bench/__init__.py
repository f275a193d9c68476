"""Measurements over a running server; benches/README.md says what each means."""
