"""Compile time of a new cell, and the start of a process whose kernels are there.

Each figure is the median of three fresh processes. "whole" starts from an empty kernel cache; "cell" from one in which
another cell has left the matrix product and the parallel region. A kernel holds no sizes: after T = 5,
the longer sequence (T = 5000) adds no file to the cache; an empty cache gets one piece of the matrix product more, for
products on several threads. Milliseconds of the clock, and in brackets of the processor.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CELLS = {"rnn_tanh": "RNN", "gru_after": "GRU", "lstm": "LSTM", "layer_norm_lstm": "layer-norm LSTM",
         "peephole_lstm": "peephole LSTM"}  # fmt: skip
OTHER = "coupled_lstm"

# Seconds of the clock and of the processor for first steps at T = 5 and 5000 and a second one, files after each.
CELL = """
import json, sys, time
from pathlib import Path
import numpy as np
import minigrad as mg
from tests import cells
cell, p, widths = cells.draw(sys.argv[1], np.random.default_rng(0), 32, 32, np.float32)
zeros = mg.tensor(np.zeros((8, 32), np.float32))
state = (zeros, zeros) if isinstance(widths, tuple) else zeros
found = []
for T in (5, 5, 5000, 5000):
    x, g = mg.tensor(np.ones((T, 8, 32), np.float32)), mg.tensor(np.ones((T, 8, 32), np.float32))
    for parameter in vars(p).values():
        parameter.grad = None
    start, processor = time.perf_counter(), time.process_time()
    mg.scan(cell, p, x, state)[0].backward(g)
    found.append((time.perf_counter() - start, time.process_time() - processor,
                  len(list(Path(mg.config.config.cache_dir).rglob("*.*")))))
print(json.dumps(found))
"""

# Seconds from the start of the process to four points.
START = """
import sys, time
start, found = float(sys.argv[1]), []
def point():
    found.append((time.time() - start, time.process_time()))
point()
import numpy, numba
point()
import minigrad as mg
point()
net = mg.nn.LSTM(64, 64, generator=0)
x, g = (mg.tensor(numpy.ones((20, 16, 64), numpy.float32)) for _ in range(2))
net(x)[0].backward(g)
point()
net.zero_grad()
net(x)[0].backward(g)
point()
import json
print(json.dumps(found))
"""


def run(program: str, argument: str, cache: str) -> list:
    command = [sys.executable, "-c", program, argument]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
                         env={**os.environ, "MINIGRAD_CACHE_DIR": cache}).stdout  # fmt: skip
    return json.loads(out)


def show(pairs: list[tuple[float, float]]) -> str:
    """The medians of (clock, processor)."""
    clock, processor = (statistics.median(column) * 1e3 for column in zip(*pairs))
    return f"{clock:6.0f} ({processor:6.0f}) ms"


def compile_times(warm: Path, repeats: int) -> None:
    for cell, title in CELLS.items():
        for what in ("cell", "whole"):
            runs = []
            for _ in range(repeats):
                with tempfile.TemporaryDirectory() as folder:
                    cache = Path(folder) / "cache"
                    if what == "cell":
                        shutil.copytree(warm, cache)
                    runs.append(run(CELL, cell, str(cache)))
            first, again, longer, longest = (
                show([(clock, processor) for clock, processor, _ in column]) for column in zip(*runs)
            )
            files = [n for _, _, n in runs[0]]
            print(f"{title:16} {what:6} T5 {first}, again {again}   T5000 {longer}, again {longest}   "
                  f"files {files[0]}, {files[2]}", flush=True)  # fmt: skip


def start_times(warm: Path, repeats: int) -> None:
    run(START, str(time.time()), str(warm))  # compiles LSTM's kernels
    runs = [run(START, str(time.time()), str(warm)) for _ in range(repeats)]
    points = list(zip(*runs))
    names = ("interpreter", "import numpy, numba", "import minigrad", "first LSTM step", "second LSTM step")
    before = [[0.0, 0.0]] * repeats
    for name, point in zip(names, points):
        spans = [(a - c, b - d) for (a, b), (c, d) in zip(point, before)]
        print(f"{name:24} {show(spans)}")
        before = point
    print(f"{'all but the second step':24} {show(points[-2])}")


def main(repeats: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder)
        run(CELL, OTHER, str(warm))
        compile_times(warm, repeats)
        start_times(warm, max(5, repeats))


if __name__ == "__main__":
    main()
