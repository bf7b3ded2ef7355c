"""Figures, each beside its yardstick from the same run. Nothing here asserts: `python -m benchmarks [--quick]`."""
