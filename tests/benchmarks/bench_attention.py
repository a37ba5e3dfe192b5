"""A decoder that attends and feeds its input, compiled against its definition, in one process: medians in turns.

Expected before it was measured: at H = 512 products with the weights take most of the time, and they are not much
faster compiled (weights packed once for all steps): 1.5 times. At H = 128 and 16 members the definition spends its time
between its 30 operations a step: 4 times. The products with the memory are a twentieth of the arithmetic.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np

import minigrad as mg
from minigrad.compiler.fused import Call, kernel_of
from minigrad.engine.tree import leaves
from tests import memory_cells
from tests.benchmarks.harness import interleave

SIZES = [(12, 64, 12, 256), (12, 64, 12, 512), (30, 16, 30, 128)]  # T, B, S, H; the input is as wide as H


def problem(T: int, B: int, S: int, H: int) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    cell, params, shapes = memory_cells.draw("input_feeding", rng, H, H, S, np.float32)
    x, g, *state = (mg.Tensor(rng.standard_normal(shape).astype(np.float32), True)
                    for shape in [(T, B, H), (T, B, H), *[(B, *shape) for shape in shapes]])  # fmt: skip
    return SimpleNamespace(cell=cell, params=params, x=x, g=mg.Tensor(g.data), state=tuple(state))


def run(p: SimpleNamespace, compiled: bool, train: bool) -> None:
    for t in [p.x, *p.state, *leaves(p.params)]:
        t.grad = None
    (fed, _), _ = mg.scan(p.cell, p.params, p.x, p.state, compiled=compiled)
    if train:
        fed.backward(p.g)


def main() -> None:
    for T, B, S, H in SIZES:
        p = problem(T, B, S, H)
        for train in (False, True):
            found = interleave({name: lambda name=name: run(p, name == "compiled", train)
                                for name in ("compiled", "definition")})  # fmt: skip
            ratio = found["definition"] / found["compiled"]
            times = ", ".join(f"{name} {t * 1e3:.2f} ms" for name, t in found.items())
            print(f"{'train' if train else 'forward'} T{T} B{B} S{S} H{H}: {times}: {ratio:.2f} times", flush=True)
    p = problem(12, 64, 12, 256)
    times = []
    for S in range(13, 33):
        keys, values, mask = (mg.Tensor(np.zeros((64, S, *t.shape[2:]), np.float32)) for t in p.state[3:])
        call = Call(p.cell, p.params, p.x, (*p.state[:3], keys, values, mask))
        start = time.perf_counter()
        assert not isinstance(kernel_of(call), str)
        times.append(time.perf_counter() - start)
    print(f"a memory of a new size S: {np.median(times) * 1e3:.2f} ms until its kernel is found")


if __name__ == "__main__":
    main()
