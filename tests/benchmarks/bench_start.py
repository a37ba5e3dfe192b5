"""Processes from their start: the import, and the first gradient step with a cold and with a warm kernel cache."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from tests.benchmarks.harness import optional

STEP = """
import minigrad as mg
x = mg.tensor([[0.1, 0.2, 0.3]])
net = mg.nn.LSTM(3, 5, generator=0)
head = mg.nn.Linear(5, 2, generator=0)
optimizer = mg.optim.Adam(net.parameters() + head.parameters())
output, _ = net(mg.stack([x, x]))
mg.cross_entropy(head(output), [[0], [1]]).backward()
mg.optim.clip_grad_norm_(net.parameters(), 1.0)
optimizer.step()
"""


def run(program: str, **environment: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **environment})
    return time.perf_counter() - start


def main() -> None:
    programs = {"an empty program": "pass", "import numpy": "import numpy", "import numba": "import numba",
                "import minigrad": "import minigrad"}  # fmt: skip
    programs |= {f"import {name}": f"import {name}" for name in ("torch", "autograd", "mygrad") if optional(name)}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(5):
        for name, program in programs.items():
            times[name].append(run(program))
    for name, found in times.items():
        print(f"{name:38} {statistics.median(found):6.2f} s")
    with tempfile.TemporaryDirectory() as cache:
        cold = run(STEP, MINIGRAD_CACHE_DIR=cache)
        warm = [run(STEP, MINIGRAD_CACHE_DIR=cache) for _ in range(5)]
    print(f"{'first step of an LSTM, cold cache':38} {cold:6.2f} s")
    print(f"{'first step of an LSTM, warm cache':38} {statistics.median(warm):6.2f} s")


if __name__ == "__main__":
    main()
