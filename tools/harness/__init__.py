"""The programs of tests/ and benches/: soaks, crashes, foreign databases, measurements, and what they share."""
