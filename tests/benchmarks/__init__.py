"""Benchmarks: ratios measured in one process, sides interleaved, medians. ``python -m tests.benchmarks`` runs all."""
