"""Cells that a user wrote, against the same cells in torch eager: layer-norm LSTM, peephole LSTM, coupled gates.

minigrad's are those of ``tests/cells.py`` under ``scan``. torch's are a Python loop over the steps with
``x_t @ W.T + h @ U.T + b`` in each (not put together for all steps), ``layer_norm`` where it has it, and its autograd
for the gradients of parameters and input; as it comes, and with glibc told to keep freed memory. Both must first give
the same numbers. Names behind ``cells`` choose: ``layer_norm_lstm peephole_lstm coupled_lstm``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from tests import cells
from tests.benchmarks.harness import Ratios, Worker, beside_torch, check_equal, installed, measure

SIZES = [(50, 1, 100, 100), (20, 16, 32, 32), (50, 32, 100, 100), (50, 50, 65, 128), (100, 64, 256, 256)]  # T, B, I, H
CELLS = ("layer_norm_lstm", "peephole_lstm", "coupled_lstm")


def draw(folder: str, cell: str, sizes: tuple[int, ...]) -> str:
    """A file with x (T, B, I), the cotangent g (T, B, H) and the parameters: the same for all sides."""
    T, B, I, H = sizes
    rng = np.random.default_rng(0)
    _, parameters, _ = cells.draw(cell, rng, I, H, np.float32)
    arrays = {name: p.numpy() for name, p in vars(parameters).items()}
    path = str(Path(folder) / "values.npz")
    x, g = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (I, H))
    np.savez(path, x=x, g=g, **arrays)
    return path


def compare(sides: dict[str, Worker], names: dict[str, str], cases: list[tuple[int, ...]]) -> None:
    """Check, then measure the cells ``names`` (function: title) at all sizes, forward and with gradients."""
    with tempfile.TemporaryDirectory() as folder:
        for cell, title in names.items():
            check_equal(sides, folder, cell=cell, values=draw(folder, cell, (7, 5, 6, 9)), train=True)
            print(f"{title}: all sides give the same numbers", flush=True)
            for train in (False, True):
                ratios = Ratios()
                for T, B, I, H in cases:
                    values = draw(folder, cell, (T, B, I, H))
                    found = measure(sides, cell=cell, values=values, train=train)
                    ratios.line(f"{title} {'train' if train else 'forward'} T{T} B{B} I{I} H{H}", found)
                ratios.means()
    for side in sides.values():
        side.close()


def main() -> None:
    if not installed("torch"):
        print("torch is not installed")
        return
    sides = beside_torch()
    wanted = [a for a in sys.argv[1:] if a in CELLS] or CELLS
    compare(sides, {name: name for name in wanted}, SIZES)


if __name__ == "__main__":
    main()
