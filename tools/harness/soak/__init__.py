"""Faults, and a verdict against the outbox and the tables."""
