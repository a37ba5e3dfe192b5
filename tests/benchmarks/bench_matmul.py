"""The matrix product against NumPy's and torch's, at the shapes of recurrent networks and at square ones."""

from __future__ import annotations

import numpy as np

from minigrad.kernels import cpu
from tests.benchmarks.harness import interleave, optional, report

# (m, k, n, which operand is a transposed view)
SHAPES = [(8, 8, 8, ""), (28, 100, 384, ""), (32, 256, 1024, "b"), (32, 1024, 256, ""), (256, 32, 1024, "a"),
          (2048, 256, 65, "b"), (2048, 256, 1024, "b"), (512, 512, 512, ""), (1024, 1024, 1024, "")]  # fmt: skip


def main() -> None:
    torch = optional("torch")
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for m, k, n, turned in SHAPES:
            a = rng.standard_normal((k, m) if turned == "a" else (m, k)).astype(dtype)
            b = rng.standard_normal((n, k) if turned == "b" else (k, n)).astype(dtype)
            a, b = a.T if turned == "a" else a, b.T if turned == "b" else b
            sides = {"minigrad": lambda a=a, b=b: cpu.matmul(a, b), "numpy": lambda a=a, b=b: a @ b}
            if torch:
                ta, tb = torch.from_numpy(a), torch.from_numpy(b)
                sides["torch"] = lambda ta=ta, tb=tb: ta @ tb
            medians = interleave(sides, seconds=0.7, pause=0.05)
            flops = 2e-9 * m * k * n / medians["minigrad"]
            report(f"{np.dtype(dtype).name} ({m}, {k}) @ ({k}, {n}) {turned}", medians, note=f"{flops:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
