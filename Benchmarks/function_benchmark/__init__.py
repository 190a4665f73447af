"""The parts of Benchmarks/functions.py."""
