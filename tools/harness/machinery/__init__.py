"""Real tools of other people beside rowcast: migrations, poolers, upgrades, foreign schemas."""
