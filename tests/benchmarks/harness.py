"""Time several ways to do the same thing in turns, and print medians and ratios.

Machines are shared: an absolute time means little, the ratio of two medians taken in turns means more.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

KEEP = {
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
}  # glibc keeps freed memory


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def installed(name: str) -> bool:
    """Whether a module is there; it is not imported, so it starts no threads."""
    return importlib.util.find_spec(name) is not None


def interleave(sides: dict[str, Callable[[], object]], seconds: float = 1.5, pause: float = 0.0) -> dict[str, float]:
    """Median time of one call of each side, in seconds; the sides take turns, each turn some milliseconds long.

    ``pause`` lets the threads of another library's pool go to sleep before a turn.
    """
    calls = {}
    for name, run in sides.items():
        run()
        start = time.perf_counter()
        run()
        calls[name] = max(1, int(0.005 / max(time.perf_counter() - start, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds * len(sides)
    while time.perf_counter() < end or len(times[next(iter(times))]) < 5:
        for name, run in sides.items():
            if pause:
                time.sleep(pause)
            run()
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(t) for name, t in times.items()}


def report(title: str, medians: dict[str, float], unit: float = 1e-6, name: str = "us", note: str = "") -> None:
    """One line: minigrad's time, and each other's time divided by it (above 1: minigrad is faster)."""
    own = medians["minigrad"]
    others = "  ".join(
        f"{other} {t / unit:.3g} {name} = {t / own:.2f}x" for other, t in medians.items() if other != "minigrad"
    )
    print(f"{title:38} minigrad {own / unit:8.3g} {name}   {others}   {note}".rstrip(), flush=True)


class Worker:
    """One side in a process of its own, with its own memory allocator and thread pool. ``tests.benchmarks.<name>`` is
    its program, which calls ``serve``. Variables of the environment come as keywords."""

    def __init__(self, name: str, **environment: str):
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen([sys.executable, "-m", f"tests.benchmarks.{name}"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "PYTHONPATH": path, **environment})  # fmt: skip

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.communicate()


def beside_torch() -> dict[str, Worker]:
    """minigrad, torch as it comes, and torch with an allocator that keeps memory."""
    torch = {"torch": Worker("torch_worker"), "torch keeping memory": Worker("torch_worker", **KEEP)}
    return {"minigrad": Worker("minigrad_worker"), **torch}


def builder(layer: Callable, language_model: Callable, user_cell: Callable) -> Callable[..., Callable[[], dict]]:
    """What a worker serves: a request with arrays is a cell, any other a layer or the language model."""

    def build(cell: str, **request: Any) -> Callable[[], dict]:
        if "values" in request:
            return user_cell(cell, **request)
        return language_model(**request) if cell == "language model" else layer(cell, **request)

    return build


def serve(build: Callable[..., Callable[[], dict]]) -> None:
    """Answer a ``Worker``, one JSON object a line. ``build(**request)`` makes a step, which returns named arrays.

    {..., "train": ...}            build it, run it once
    {"run": n}                     the times of n runs
    {"save": path}                 write what the step returns to a NumPy file
    {"peak": true, ..., "train"}   build it; by how many bytes its first run raises the peak of resident memory
    """
    step: Any = None
    for line in sys.stdin:
        request, answer = json.loads(line), None
        if "run" in request:
            step()  # threads of the side before may still be awake
            answer = []
            for _ in range(request["run"]):
                start = time.perf_counter()
                step()
                answer.append(time.perf_counter() - start)
        elif "save" in request:
            np.savez(request["save"], **{name: np.asarray(x) for name, x in step().items()})
        else:
            peak = request.pop("peak", False)
            step = build(**request)
            before = resident("VmRSS", reset=True) if peak else 0
            step()
            answer = resident("VmHWM") - before if peak else None
        print(json.dumps(answer), flush=True)


def resident(field: str, reset: bool = False) -> int:
    """Bytes of this process in memory (Linux): now (VmRSS), or the most since the last ``reset`` (VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(sides: dict[str, Worker], seconds: float = 1.2, **request: Any) -> dict[str, float]:
    """Median time of a run of each worker, in seconds; they take turns of five runs."""
    for side in sides.values():
        side.ask(**request)
    times: dict[str, list[float]] = {name: [] for name in sides}
    longest = max(statistics.median(side.ask(run=3)) for side in sides.values())
    for _ in range(min(40, max(3, int(seconds / longest / 5)))):
        for name, side in sides.items():
            time.sleep(0.02)  # the threads of the side before go to sleep
            times[name] += side.ask(run=5)
    return {name: statistics.median(t) for name, t in times.items()}


class Ratios:
    """Prints a line for each case, and at last the geometric means of the ratios (above 1: minigrad is faster)."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def line(self, title: str, medians: dict[str, float], note: str = "") -> None:
        own = medians["minigrad"]
        parts = []
        for name, t in medians.items():
            if name != "minigrad":
                self.found.setdefault(name, []).append(t / own)
                parts.append(f"{name} {t * 1e3:.3f} ms = {t / own:.2f}x")
        print(f"{title:42} minigrad {own * 1e3:9.3f} ms {note}  {'  '.join(parts)}", flush=True)

    def means(self) -> None:
        for name, r in self.found.items():
            print(f"{'':42} geometric mean against {name}: {math.exp(statistics.mean(map(math.log, r))):.2f}x")


def check_equal(sides: dict[str, Worker], folder: str, tolerance: float = 1e-4, **request: Any) -> None:
    """Ask all sides for their numbers in one case, and refuse to go on if they differ."""
    results = {}
    for name, side in sides.items():
        path = str(Path(folder) / "result.npz")
        side.ask(**request)
        side.ask(save=path)
        with np.load(path) as file:
            results[name] = dict(file)
    own = results["minigrad"]
    for name, other in results.items():
        assert own.keys() == other.keys(), (sorted(own), sorted(other))
        for key, x in own.items():
            error = np.abs(x - other[key]).max() / np.abs(x).max()
            if not error < tolerance:
                raise SystemExit(f"{request}: {key} of {name} differs from minigrad's by {error:.1e}")
