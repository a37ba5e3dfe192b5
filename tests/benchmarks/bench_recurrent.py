"""Recurrent layers, forward and forward + backward, against torch's fused ones.

torch runs twice, each in a process of its own: as it comes, and with glibc told to keep freed memory. The three
sides take turns; two threads each; medians. Names behind ``recurrent`` choose cells: ``LSTM GRU RNN``.
"""

from __future__ import annotations

import sys

from tests.benchmarks.harness import Ratios, beside_torch, installed, measure

CASES = [(50, 1, 100, 100, 1), (20, 16, 32, 32, 1), (50, 32, 100, 100, 1), (50, 50, 65, 128, 2), (100, 64, 256, 256, 1),
         (35, 20, 200, 200, 2), (35, 20, 650, 650, 2), (25, 64, 1024, 1024, 1)]  # T, B, I, H, layers  # fmt: skip
CELLS = ("LSTM", "GRU", "RNN")


def products(cell: str, sizes: tuple[int, ...], train: bool) -> float:
    """Floating-point operations of the products."""
    T, B, I, H, layers = sizes
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    return sum(2 * T * B * gates * H * ((I if k == 0 else H) + H) for k in range(layers)) * (3 if train else 1)


def main() -> None:
    if not installed("torch"):
        print("torch is not installed")
        return
    sides = beside_torch()
    for cell in [a for a in sys.argv[1:] if a in CELLS] or CELLS:
        for train in (False, True):
            ratios = Ratios()
            for sizes in CASES:
                found = measure(sides, cell=cell, sizes=sizes, train=train)
                rate = products(cell, sizes, train) / found["minigrad"] * 1e-9
                T, B, I, H, layers = sizes
                title = f"{cell} {'train' if train else 'forward'} T{T} B{B} I{I} H{H} x{layers}"
                ratios.line(title, found, f"{rate:4.0f} GFLOP/s")
            ratios.means()
    for side in sides.values():
        side.close()


if __name__ == "__main__":
    main()
