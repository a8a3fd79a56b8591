"""What was tried where a target is missed: small measurements behind the tables of docs/benchmarks.md."""
