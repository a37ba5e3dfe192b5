"""minigrad on a GPU beside torch on the same GPU, in one process, by device events: medians of interleaved runs.

``python -m tests.benchmarks.bench_cuda PART`` measures one of PARTS; ``cuda_all`` runs them all and writes the page.
``--device cuda-sim`` with small sizes runs the same code on the emulated GPU: a test of the program, no measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.kernels import named
from tests.benchmarks.harness import optional

Sides = dict[str, Callable[[], Any]]
Row = dict[str, Any]

SEQUENCES = [(25, 16, 512), (25, 64, 1024), (150, 16, 256), (150, 64, 256), (50, 16, 1024), (1000, 16, 768)]  # T, B, H
SMALL = [(25, 16, 512), (150, 64, 256)]
LAUNCHES = 300  # of a small kernel, to see what a launch costs


class Bench:
    """A device, torch on the same device (None where there is none), and sizes: real, or tiny for a dry run."""

    def __init__(self, device: str, tiny: bool):
        if device == "cuda-sim":
            from minigrad.testing import simt

            simt.device()
        self.name, self.tiny = device, tiny
        self.backend = named(device)
        self.device = self.backend.device
        self.torch = optional("torch") if device == "cuda" else None
        if self.torch is not None and not self.torch.cuda.is_available():
            self.torch = None
        self.random = np.random.default_rng(0)

    def drawn(self, *shape: int) -> tuple[mg.Tensor, Any]:
        """The same numbers for both; never zeros, on which a GPU is faster."""
        x = self.random.standard_normal(shape, np.float32)
        theirs = self.torch.from_numpy(x).cuda() if self.torch else None
        return mg.tensor(x, device=self.name), theirs

    def seconds(self, side: str, run: Callable[[], Any], times: int) -> float:
        """Of one of ``times`` runs."""

        def all_of_them() -> None:
            for _ in range(times):
                run()

        if side == "minigrad":
            return self.device.seconds(all_of_them) / times
        before, after = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        all_of_them()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / 1e3 / times

    def compare(self, sides: Sides, budget: float = 0.5) -> dict[str, float]:
        """Median seconds of each side, which take turns, until the budget of seconds is used up."""
        if self.torch is None:
            sides = {"minigrad": sides["minigrad"]}
        times = {}
        for side, run in sides.items():
            run()
            self.seconds(side, run, 1)
            one = self.seconds(side, run, 1)
            times[side] = 1 if self.tiny else max(1, min(1000, int(0.01 / max(one, 1e-6))))
        found: dict[str, list[float]] = {side: [] for side in sides}
        turns = 1 if self.tiny else 25
        while min(map(len, found.values())) < turns and sum(t * times[s] for s in found for t in found[s]) < budget:
            for side, run in sides.items():
                found[side].append(self.seconds(side, run, times[side]))
        return {side: statistics.median(t) for side, t in found.items()}


# ------------------------------------------------------------------------------------------------ memory


def memory(b: Bench) -> Iterator[Row]:
    """Bytes read and written over time, as a share of what a large copy reaches in the same run."""
    n = 64 if b.tiny else 1 << 28  # 1 GiB: far beyond the second-level cache
    x, theirs = b.drawn(n)
    other, other_theirs = b.drawn(n)
    copies: Sides = {"minigrad": lambda: b.backend.copy(x.data)}
    if b.torch:
        into = b.torch.empty_like(theirs)
        copies["torch"] = lambda: into.copy_(theirs)
    found = b.compare(copies)
    best = 8 * n / min(found.values())
    yield {"what": "copy", "bytes": 8 * n, **found, "share": 8 * n / found["minigrad"] / best}
    torch = b.torch
    rows, columns = (8, 8) if b.tiny else (1 << 14, 1 << 14)
    a, t = x.reshape(rows, columns), theirs.reshape(rows, columns) if torch else None
    row, t_row = b.drawn(columns)
    softmax_theirs = (lambda: torch.softmax(t, -1)) if torch else None
    cases: list[tuple[str, int, Callable, Any]] = [
        ("x + y", 12 * n, lambda: x + other, torch and (lambda: theirs + other_theirs)),
        ("tanh(x)", 8 * n, lambda: mg.tanh(x), torch and (lambda: torch.tanh(theirs))),
        ("sigmoid(x)", 8 * n, lambda: mg.sigmoid(x), torch and (lambda: torch.sigmoid(theirs))),
        ("x * row", 8 * n, lambda: a * row, torch and (lambda: t * t_row)),
        ("x.T + y", 12 * n, lambda: a.T + a, torch and (lambda: t.T + t)),
        ("sum of all", 4 * n, lambda: x.sum(), torch and (lambda: theirs.sum())),
        ("sum of rows", 4 * n, lambda: a.sum(axis=1), torch and (lambda: t.sum(1))),
        ("sum of columns", 4 * n, lambda: a.sum(axis=0), torch and (lambda: t.sum(0))),
        ("max of rows", 4 * n, lambda: a.max(axis=1), torch and (lambda: t.amax(1))),
        ("softmax of rows", 8 * n, lambda: mg.softmax(a, axis=-1), softmax_theirs),
    ]
    for what, size, ours, of_torch in cases:
        with mg.no_grad():
            found = b.compare({"minigrad": ours, **({"torch": of_torch} if of_torch else {})})
        yield {"what": what, "bytes": size, **found, "share": size / found["minigrad"] / best}
    x.requires_grad = True
    y = mg.tanh(x)
    ones = mg.tensor(np.ones(n, np.float32), device=b.name)

    def backward() -> None:
        x.grad = None
        y.backward(ones, retain_graph=True)

    found = b.compare({"minigrad": backward})
    yield {"what": "backward of tanh", "bytes": 12 * n, **found, "share": 12 * n / found["minigrad"] / best}


def launches(b: Bench) -> Iterator[Row]:
    """What a small operation costs: the time of a launch, and of a replayed graph of launches."""
    x, theirs = b.drawn(256)

    def ours() -> None:
        with mg.no_grad():
            for _ in range(4 if b.tiny else LAUNCHES):
                mg.tanh(x)

    def of_torch() -> None:
        for _ in range(LAUNCHES):
            b.torch.tanh(theirs)

    found = b.compare({"minigrad": ours, "torch": of_torch})
    yield {"what": "an operation of 256 numbers", **{k: v / (4 if b.tiny else LAUNCHES) for k, v in found.items()}}
    with b.device.capture() as graph:
        ours()
    found = b.compare({"minigrad": graph.launch})
    yield {"what": "the same in a graph", **{k: v / (4 if b.tiny else LAUNCHES) for k, v in found.items()}}


# ------------------------------------------------------------------------------------------------ products


def products(b: Bench) -> Iterator[Row]:
    """Products of float32, as MINIGRAD_MATMUL says (float32, tf32 or bf16), beside cuBLAS in the same arithmetic."""
    kind = os.environ.get("MINIGRAD_MATMUL", "float32")
    if b.torch:
        b.torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    peak = None
    if b.name == "cuda" and kind == "float32":
        has = b.device.card.properties
        peak = has.clock_rate * 1e3 * has.multiprocessor_count * 256  # 128 multiply-adds a clock and multiprocessor
    sizes = (
        [(16, 16, 16)] if b.tiny else [(4096,) * 3, (8192,) * 3, (1600, 2048, 512), (2048, 512, 1600), (64, 4096, 1024)]
    )
    for m, n, k in sizes:
        (x, tx), (y, ty) = b.drawn(m, k), b.drawn(k, n)
        if b.torch and kind == "bf16":
            tx, ty = tx.bfloat16(), ty.bfloat16()
        with mg.no_grad():
            found = b.compare({"minigrad": lambda: x @ y, "torch": lambda: tx @ ty})
            exact = x.numpy()[:64].astype(np.float64) @ y.numpy().astype(np.float64)
            error = np.linalg.norm((x @ y).numpy()[:64] - exact) / np.linalg.norm(exact)
        flops = 2 * m * n * k / found["minigrad"]
        row = {"what": f"{kind} {m} x {k} x {n}", **found, "flops": flops, "error": float(error)}
        yield row | ({"peak": flops / peak} if peak else {})


# ------------------------------------------------------------------------------------------------ recurrence


def _steps(sizes: tuple[int, int, int]) -> str:
    return "T {} B {} H {}".format(*sizes)


def _layer_row(b: Bench, what: str, sizes: tuple[int, int, int], ours: Any, theirs: Any) -> Row:
    """Forward and backward of a layer of H inputs and H units, all gradients."""
    T, B, H = sizes
    ours.to(b.name)
    x, tx = b.drawn(T, B, H)
    g, tg = b.drawn(T, B, H)
    x.requires_grad = True

    def train() -> None:
        x.grad = None
        for p in ours.parameters():
            p.grad = None
        ours(x)[0].backward(g)

    sides: Sides = {"minigrad": train}
    if theirs is not None:
        theirs = theirs.cuda()
        tx.requires_grad_()

        def train_theirs() -> None:
            tx.grad = None
            theirs.zero_grad(set_to_none=True)
            theirs(tx)[0].backward(tg)

        sides["torch"] = train_theirs
    found = b.compare(sides, budget=1.0)
    return {"what": f"{what} {_steps(sizes)}", **found, "step": found["minigrad"] / T}


def recurrent(b: Bench) -> Iterator[Row]:
    """Layers that cuDNN has, against it (float32; torch's default lets cuDNN use tf32)."""
    cases = [("LSTM", s) for s in SEQUENCES] + [(c, s) for c in ("GRU", "RNN") for s in SMALL]
    for cell, sizes in [("LSTM", (3, 2, 4)), ("GRU", (3, 2, 4)), ("RNN", (3, 2, 4))] if b.tiny else cases:
        own = {"reset": "after"} if cell == "GRU" else {}
        theirs = getattr(b.torch.nn, cell)(sizes[2], sizes[2]) if b.torch else None
        yield _layer_row(b, cell, sizes, getattr(mg.nn, cell)(sizes[2], sizes[2], **own), theirs)


def cells(b: Bench) -> Iterator[Row]:
    """Cells that cuDNN has not, against a loop over steps in torch."""
    from tests.benchmarks.cuda_cells import OURS, theirs

    for name, make in OURS.items():
        for sizes in [(3, 2, 4)] if b.tiny else SMALL:
            yield _layer_row(b, name, sizes, make(sizes[2]), theirs(b.torch, name, sizes[2]) if b.torch else None)


# ------------------------------------------------------------------------------------------------ every kernel


def _compile(job: tuple) -> str:
    from minigrad.kernels.cuda.driver import machine_code

    machine_code(*job)
    return job[0].stem


def prepare(b: Bench) -> Iterator[Row]:
    """Compile what operations and layers launch, on all cores, into the folder of kernels."""
    from cuda_code import THREADS, kernels

    cases = [case for dtype in ("float32", "float64") for case in kernels(dtype)[0]]
    if b.name == "cuda-sim":
        yield {"what": "kernels", "number": len(cases)}
        return
    jobs = [(kernel.file(dtype), b.device.capability, kernel.threads or THREADS, kernel.max_registers)
            for kernel, dtype in cases]  # fmt: skip
    start = perf_counter()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # a fork would share the GPU
        number = len(set(pool.map(_compile, jobs)))
    yield {"what": "kernels compiled", "number": number, "minigrad": perf_counter() - start}


def every(b: Bench) -> Iterator[Row]:
    """Run every operation with its gradients and every layer once, small: for compute-sanitizer to watch."""
    from cuda_code import runs

    for dtype in ("float32",) if b.tiny else ("float32", "float64"):
        for i, (name, run) in enumerate(runs(dtype)):
            if b.tiny and i % 40:
                continue
            ys = run(b.name)
            for y in ys if isinstance(ys, (tuple, list)) else (ys,):
                if y.requires_grad:
                    g = np.ones(y.shape, y.dtype)
                    y.backward(mg.tensor(g, device=b.name), retain_graph=True)
            b.device.synchronize()
            yield {"what": f"{name} {dtype}"}


PARTS = {f.__name__: f for f in (prepare, memory, launches, products, recurrent, cells, every)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cuda-sim"])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, help="rows as JSON, one a line, as they are measured")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # cuda_code
    with options.out.open("w") if options.out else open(os.devnull, "w") as out:
        for row in PARTS[options.part](Bench(options.device, options.tiny)):
            text = json.dumps(row)
            print(text, flush=True)
            out.write(text + "\n")
            out.flush()


if __name__ == "__main__":
    main()
