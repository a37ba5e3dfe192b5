"""LSTM, GRU and RNN of one layer against JAX's jitted ``lax.scan``: forward, and ``value_and_grad``.

The gradients are those of parameters and input. Both run the equations of ``minigrad.nn.cells`` in float32 and must
first give the same numbers. JAX runs twice: with ``x_t @ W.T`` in each step, and with the products of all inputs put
before the scan by hand (minigrad's compiler does that by itself). Names behind ``jax`` choose: ``lstm gru_after
rnn_tanh``.
"""

from __future__ import annotations

import sys

from tests.benchmarks.bench_cells import compare
from tests.benchmarks.bench_recurrent import CASES
from tests.benchmarks.harness import Worker, installed

CELLS = {"lstm": "LSTM", "gru_after": "GRU", "rnn_tanh": "RNN"}


def main() -> None:
    if not installed("jax"):
        print("jax is not installed")
        return
    sides = {"minigrad": Worker("minigrad_worker"), "jax": Worker("jax_worker"),
             "jax hoisted": Worker("jax_worker", HOIST="1")}  # fmt: skip
    wanted = [a for a in sys.argv[1:] if a in CELLS] or CELLS
    compare(sides, {name: CELLS[name] for name in wanted}, [sizes[:4] for sizes in CASES])


if __name__ == "__main__":
    main()
