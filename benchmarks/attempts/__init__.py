"""Small measurements for the tables on missed targets in docs/benchmarks.md."""
