"""Recurrent layers, forward and forward + backward, against torch's fused ones.

torch runs twice, each in a process of its own: as it comes, and with glibc told to keep freed memory. The three
sides take turns; two threads each; medians. Names behind ``recurrent`` choose cells: ``LSTM GRU RNN``.
"""

from __future__ import annotations

import sys
<<<<<<< HEAD
=======
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
>>>>>>> heads

from tests.benchmarks.harness import KEEP, Ratios, Worker, installed, measure

CASES = [(50, 1, 100, 100, 1), (20, 16, 32, 32, 1), (50, 32, 100, 100, 1), (50, 50, 65, 128, 2), (100, 64, 256, 256, 1),
         (35, 20, 200, 200, 2), (35, 20, 650, 650, 2), (25, 64, 1024, 1024, 1)]  # T, B, I, H, layers  # fmt: skip
<<<<<<< HEAD
CELLS = ("LSTM", "GRU", "RNN")
=======
KEEP = {
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
}
SECONDS = 1.2


class Torch:
    """A worker process."""

    def __init__(self, **environment: str):
        worker = str(Path(__file__).with_name("torch_worker.py"))
        self.process = subprocess.Popen([sys.executable, worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **environment})  # fmt: skip

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Minigrad:
    def ask(self, **request: Any) -> Any:
        if "cell" not in request:
            times = []
            self.step()
            for _ in range(request["run"]):
                start = time.perf_counter()
                self.step()
                times.append(time.perf_counter() - start)
            return times
        T, B, I, H, layers = request["sizes"]
        rng = np.random.default_rng(0)
        options = {"reset": "after"} if request["cell"] == "GRU" else {}
        net = getattr(mg.nn, request["cell"])(I, H, layers, generator=0, **options)
        x = mg.tensor(rng.standard_normal((T, B, I)).astype(np.float32), requires_grad=request["train"])
        g = mg.tensor(rng.standard_normal((T, B, H)).astype(np.float32))

        def step() -> None:
            if not request["train"]:
                with mg.no_grad():
                    net(x)
                return
            for p in (x, *net.parameters()):
                p.grad = None
            net(x)[0].backward(g)

        self.step = step
        step()
        return {}


def measure(sides: dict[str, Any], cell: str, sizes: tuple[int, ...], train: bool,
            of: Callable[[list[float]], float] = statistics.median) -> dict[str, float]:  # fmt: skip
    for side in sides.values():
        side.ask(cell=cell, sizes=list(sizes), train=train)
    times: dict[str, list[float]] = {name: [] for name in sides}
    longest = max(statistics.median(side.ask(run=3)) for side in sides.values())
    turns, run = max(3, int(SECONDS / longest / 5)), 5
    for _ in range(min(turns, 40)):
        for name, side in sides.items():
            time.sleep(0.02)  # the threads of the side before go to sleep
            times[name] += side.ask(run=run)
    return {name: of(t) for name, t in times.items()}
>>>>>>> heads


def products(cell: str, sizes: tuple[int, ...], train: bool) -> float:
    """Floating-point operations of the products."""
    T, B, I, H, layers = sizes
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    return sum(2 * T * B * gates * H * ((I if k == 0 else H) + H) for k in range(layers)) * (3 if train else 1)


def main() -> None:
    if not installed("torch"):
        print("torch is not installed")
        return
    sides = {"minigrad": Worker("minigrad_worker"), "torch": Worker("torch_worker"),
             "torch keeping memory": Worker("torch_worker", **KEEP)}  # fmt: skip
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
