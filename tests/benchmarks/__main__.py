"""Run the benchmarks, all or those named: ``python -m tests.benchmarks small_op matmul``."""

from __future__ import annotations

import importlib
import sys

NAMES = ["start", "compile", "small_op", "elementwise", "matmul", "memory", "training", "softmax", "recurrent", "cells",
         "long", "jax", "faults", "zaremba", "embed", "transfer", "translate",
         "lengths", "captions"]  # fmt: skip

for name in [n for n in sys.argv[1:] if n in NAMES] or NAMES:
    print(f"\n== {name}", flush=True)
    importlib.import_module(f"tests.benchmarks.bench_{name}").main()
