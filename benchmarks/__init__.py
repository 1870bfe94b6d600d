"""Benchmarks: `python -m benchmarks.NAME [--quick]` prints readable lines and, last, one line of JSON."""
