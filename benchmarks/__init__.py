"""Measurements beside peers; see `benchmarks/run.py`."""
