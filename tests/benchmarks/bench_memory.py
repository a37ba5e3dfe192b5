"""Page faults of a training step of an LSTM (T 100, B 64, H 256) with and without kept memory (glibc)."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import resource, time
import numpy as np
import minigrad as mg
net = mg.nn.LSTM(256, 256, generator=0)
x = mg.tensor(np.ones((100, 64, 256), np.float32))
def step():
    net.zero_grad()
    (net(x)[0] * 2.0).sum().backward()
for _ in range(5):
    step()
faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
for _ in range(10):
    step()
seconds = time.perf_counter() - start
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / 10, seconds / 10)
"""


def main() -> None:
    results = {}
    for keep in ("1", "0"):
        out = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True,
                             env={**os.environ, "MINIGRAD_KEEP_MEMORY": keep}).stdout  # fmt: skip
        results[keep] = tuple(map(float, out.split()))
        faults, seconds = results[keep]
        print(f"MINIGRAD_KEEP_MEMORY={keep}: {faults:7.0f} page faults and {seconds * 1e3:.2f} ms a step")
    print(f"{'time without / with':38} {results['0'][1] / results['1'][1]:.2f}x")


if __name__ == "__main__":
    main()
