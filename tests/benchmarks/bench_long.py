"""Long sequences and large batches: training an LSTM (I = H = 64), time for one member of the batch and one step, and
the peak of memory of one step of training at T = 10000, beside torch's."""

from __future__ import annotations

import inspect

from tests.benchmarks.harness import KEEP, Worker, installed, measure

WIDTH = 64
CASES = [(100, 16), (1000, 16), (10_000, 16), (100, 4), (100, 64), (100, 256)]  # T, B


def has_checkpoints() -> bool:
    import minigrad as mg

    return "checkpoint_every" in inspect.signature(mg.scan).parameters


def peak(worker: Worker, T: int, **options: int) -> float:
    """MB that a first training step adds to a process whose kernels are loaded."""
    worker.ask(cell="LSTM", sizes=(10, 16, WIDTH, WIDTH, 1), train=True, **options)
    found = worker.ask(peak=True, cell="LSTM", sizes=(T, 16, WIDTH, WIDTH, 1), train=True, **options)
    worker.close()
    return found / 1e6


def main() -> None:
    names = {"minigrad": ("minigrad_worker", {})}
    if installed("torch"):
        names |= {"torch": ("torch_worker", {}), "torch keeping memory": ("torch_worker", KEEP)}
    sides = {name: Worker(worker, **environment) for name, (worker, environment) in names.items()}
    for T, B in CASES:
        found = measure(sides, cell="LSTM", sizes=(T, B, WIDTH, WIDTH, 1), train=True)
        parts = [f"{name} {t * 1e3:9.3f} ms, {t / T / B * 1e9:6.0f} ns" for name, t in found.items()]
        print(f"T{T} B{B}".ljust(12), "   ".join(parts), flush=True)
    for side in sides.values():
        side.close()
    runs = {name: (worker, environment, {}) for name, (worker, environment) in names.items() if environment == {}}
    if has_checkpoints():
        runs["minigrad, checkpoint_every=100"] = ("minigrad_worker", {}, {"checkpoint_every": 100})
    for T in (1000, 10_000):
        for name, (worker, environment, options) in runs.items():
            print(f"peak of memory, T{T} B16: {name:32} {peak(Worker(worker, **environment), T, **options):8.1f} MB",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
