"""Floor 6: what one comparison over everything may hide: outputs, inputs and small entries, each looked at alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from minigrad.testing.compare import SHORTER, Outcome, along, confirmed, dtype_of, has_kinks, judged, measured, weights
from minigrad.testing.numeric import TOLERANCE, flat
from minigrad.testing.numeric import noise as noise_of

MOST = 15  # so many subsets of inputs, and of outputs, are tried: all of them up to four
GROUPS = 32  # so many inputs, or parts of them, are looked at alone
FLOOR = {"float64": 1e-12, "float32": 1e-5}  # how exact the smallest entry of a gradient is, relative to the largest


def subsets(count: int, rng: np.random.Generator) -> list[set[int]]:
    """Non-empty sets of the numbers below ``count``: all of them first, then single ones, then others, MOST at most."""
    every = range(1, 2**count) if 2**count <= MOST + 1 else {1 << int(i) for i in rng.permutation(count)[: MOST // 2]}
    bits = sorted(every, key=int.bit_count)
    bits += [int(b) for b in rng.integers(1, 2 ** min(count, 62), MOST - 1 - len(bits))] if count > 4 else []
    return [set(range(count))] + [{i for i in range(count) if b >> i & 1} for b in bits if b.bit_count() < count]


def numbered(what: str, some: set[int]) -> str:
    """In words: output 1, outputs 0, 2."""
    return f"{what}{'s' if len(some) > 1 else ''} {', '.join(map(str, sorted(some)))}"


def wrong_alone(at: Outcome) -> tuple[set[int], Outcome] | None:
    """Results that have a wrong gradient when no other is used."""
    for some in subsets(len(at.gs), np.random.default_rng(0))[1:]:
        gs = [g if i in some else None for i, g in enumerate(at.gs)]
        one = replace(at, gs=[np.zeros(y.shape) if g is None else g for g, y in zip(gs, at.ys)], grads=at.pull(gs))
        judged(one, noise_again(one))
        if not one.finite or (one.settled and not one.agrees):
            return some, one
    return None


def noise_again(at: Outcome) -> float | None:
    """How exact values are, for other cotangents on the same line."""
    inexact = at.coarse or dtype_of(at.ys) == "float32"
    return noise_of(along(at.case, at.xs, at.vs), weights(at.gs, at.ys), at.scale) if inexact else None


def nonlinear(at: Outcome) -> str:
    """A gradient is linear in the cotangent: minus twice the one gives minus twice the other."""
    with np.errstate(all="ignore"):
        for i, (a, b) in enumerate(zip(at.pull([-2 * g for g in at.gs]), at.grads)):
            if not np.allclose(a, -2 * b, rtol=0, atol=1e-3 * TOLERANCE[at.dtype][1] * abs(b).max(initial=0)):
                return f"-2 times the cotangent does not give -2 times the gradient of input {i}"
    return ""


def closer(at: Outcome) -> Iterator[Outcome]:
    """What is wrong, but was hidden: inputs, and entries of other sizes, each group alone; then a cotangent that gives
    large and small results the same weight."""
    peak = max((float(abs(a).max(initial=0)) for a in at.grads), default=0.0)
    groups = [(i, m) for i, a in enumerate(at.grads) for m in _sizes(abs(a))]
    for i, member in groups[:GROUPS] if len(groups) > 1 else []:
        vs = [v * member if n == i else np.zeros(v.shape) for n, v in enumerate(at.vs)]
        length = 1.0 if at.dtype == "float32" else float(np.sqrt((vs[i] * vs[i]).sum())) or 1.0
        vs[i] = vs[i] * (min(1.0, 1 / length) if length > 1 else min(1 / length, 1e3))
        floor = FLOOR[at.dtype] * (peak * float(abs(vs[i]).sum()) + _size(at))
        for shorter in SHORTER[dtype_of(at.ys)]:
            one = measured(replace(at, vs=vs), at.scale * shorter, floor)
            one = confirmed(one, floor) if one.settled else one
            if one.settled:
                break
        if one.settled and not one.agrees and not has_kinks(one):
            yield one
        if (one.blurred or not one.settled) and i not in at.unseen:
            at.unseen.append(i)
    if one := _balanced(at):
        yield one


def _size(at: Outcome) -> float:
    """Of the results with these cotangents: 1 - y * y, where y is nearly 1, is as inexact as y."""
    return float(abs(weights(at.gs, at.ys) * flat(at.ys)).sum())


def _sizes(a: np.ndarray) -> Iterator[np.ndarray]:
    """Groups of entries, of about the same size each."""
    most = a.max(initial=0)
    if not a.size:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        kind = np.where(a > 0, np.minimum(np.log10(most / a) // 4, 3), 3) if most else np.zeros(a.shape)
    for k in np.unique(kind):
        yield kind == k


def _balanced(at: Outcome) -> Outcome | None:
    """The comparison with cotangents inverse to the size of the results' derivatives, if that is wrong."""
    with np.errstate(all="ignore"):
        d = abs(at.line.plus[0] - at.line.minus[0])
    most = d.max(initial=0)
    d = np.where(d > 1e-10 * most, d, most)
    if not 1e4 * d.min(initial=np.inf) < most < np.inf:
        return None
    rng = np.random.default_rng(0)
    w = rng.uniform(0.5, 1.5, d.shape) * rng.choice([-1.0, 1.0], d.shape) * d.min() / d
    ends = np.cumsum([y.size for y in at.ys])[:-1]
    gs = [part.reshape(y.shape) for part, y in zip(np.split(w, ends), at.ys)]
    one = replace(at, gs=gs, grads=at.pull(gs))
    judged(one, noise_again(one), FLOOR[at.dtype] * (_size(one) + one.natural))
    return None if one.agrees or (one.finite and not one.settled) else one
