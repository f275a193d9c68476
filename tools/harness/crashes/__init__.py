"""A database that crashes in each of seven ways, and what cursors of every age are answered."""
