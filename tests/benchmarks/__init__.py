"""Benchmarks: sides take turns, medians and their ratios. ``python -m tests.benchmarks`` runs all.

Where two sides have threads, each runs in a process of its own (``harness.Worker``)."""
