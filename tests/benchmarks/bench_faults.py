"""The catalogue of planted faults, by minigrad's checks and by ``torch.autograd.gradcheck``."""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch.autograd import Function, gradcheck, gradgradcheck

sys.path.insert(0, str(Path(__file__).parents[1]))

from fault_catalogue import FAULTS, Fault
from faults_later import LATER

import minigrad as mg
from minigrad.testing import GradientError, check_grad, check_vjp

TIGHT = {"eps": 1e-5, "atol": 1e-7, "rtol": 1e-5}  # about as far as central differences of one step go


def by_minigrad(fault: Fault) -> str:
    """The cause that is reported, empty if the fault was not seen."""
    made = fault.make()
    try:
        if fault.kind == "rule":
            forward, rules = made
            op = mg.Operation("planted", lambda backend, *xs: np.asarray(forward(*xs)), rules(mg))
            check_grad(lambda *xs: mg.apply(op, xs), *fault.inputs)
        else:
            check_vjp(*made, *fault.inputs, saved=fault.kind == "saved")
    except GradientError as error:
        return error.cause
    return ""


def as_torch(fault: Fault) -> type[Function]:
    """The same forward and backward as a function of torch."""
    forward, made = fault.make()
    rules = made(torch) if fault.kind == "rule" else None

    class Planted(Function):
        @staticmethod
        def forward(ctx, *ts):
            out = forward(*[t.detach().numpy() for t in ts])
            ctx.cache = None
            if fault.kind == "saved":
                out, ctx.cache = out
            ys = tuple(torch.tensor(np.asarray(y)) for y in (out if isinstance(out, tuple) else (out,)))
            ctx.count = len(ts)
            ctx.save_for_backward(*ts, *ys)
            return ys if len(ys) > 1 else ys[0]

        @staticmethod
        def backward(ctx, *gs):
            ts, ys = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
            if rules:
                return tuple(r(gs[0], ys[0], *ts).sum_to_size(t.shape) for r, t in zip(rules, ts))
            g = tuple(g.detach().numpy() for g in gs)
            g = g if len(g) > 1 else g[0]
            given = [ctx.cache] if fault.kind == "saved" else [t.detach().numpy() for t in ts]
            found = made(g, *given)
            found = found if isinstance(found, tuple) else (found,)
            return tuple(None if a is None else torch.as_tensor(a) for a in found)

    return Planted


def by_torch(fault: Fault, **options: float) -> bool:
    xs = tuple(torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in fault.inputs)
    try:
        f = as_torch(fault).apply
        gradcheck(f, xs, **options)
        if fault.kind == "rule":
            gradgradcheck(f, xs, **options)
    except Exception:  # an error of any kind stops the author of the fault
        return True
    return False


def main() -> None:
    warnings.simplefilter("ignore")
    total: Counter = Counter()
    seen: dict[str, Counter] = {"caught": Counter(), "named": Counter(), "torch": Counter(), "tight": Counter()}
    missed = []
    times = [0.0, 0.0]
    later = {f.name for f in LATER}
    for fault in [*FAULTS, *LATER]:
        kind = "written later" if fault.name in later else fault.cause
        start = time.perf_counter()
        cause = by_minigrad(fault)
        times[0] += time.perf_counter() - start
        start = time.perf_counter()
        plain = by_torch(fault)
        times[1] += time.perf_counter() - start
        tight = by_torch(fault, **TIGHT)
        total[kind] += 1
        for name, hit in (("caught", cause), ("named", cause == fault.cause), ("torch", plain), ("tight", tight)):
            seen[name][kind] += bool(hit)
        if not plain:
            missed.append(fault.name)
    print("| cause | faults | caught | named right | gradcheck | gradcheck, tight |\n|---|---|---|---|---|---|")
    for cause in [*total, "all"]:
        n = total.total() if cause == "all" else total[cause]
        row = [c.total() if cause == "all" else c[cause] for c in seen.values()]
        print(f"| {cause} | {n} | {' | '.join(map(str, row))} |")
    print(f"\nminigrad {times[0]:.1f} s with reports, gradcheck {times[1]:.1f} s")
    print("not seen by gradcheck:", "; ".join(missed))


if __name__ == "__main__":
    main()
