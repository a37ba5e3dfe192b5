"""Floor 6: from the entries of a wrong gradient to what is probably wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from minigrad.testing.compare import Arrays, Outcome, draw, examine, weights
from minigrad.testing.entries import MOST, Entries, entries, one_by_one
from minigrad.testing.numeric import flat, on_line, slope
from minigrad.testing.report import number, ratio, small

Answer = tuple[str, str] | None


def explain(at: Outcome) -> tuple[str, str, list[str]]:
    """The likely cause (a key of ``CAUSES``), a hint, and lines about the entries."""
    found = entries(at)
    wrong = [i for i, e in enumerate(found) if e.wrong.any()]
    details = _details(at, found, wrong)
    if not wrong:
        return "term", "single entries look right: the error is small beside the others", details
    for ask in (_stale, _nonlinear, _size_one, _exchanged):
        if answer := ask(at, found, wrong):
            return *answer, details
    answers = [_of_input(at, found, i) for i in wrong]
    for name, hint in answers:  # what is passed on to other inputs is wrong in more complicated ways
        if name != "term":
            return name, hint, details
    if answer := _one_step(at):
        return *answer, details
    return *answers[0], details


def _one_step(at: Outcome) -> Answer:
    """What a sequence (T, B, I) of one step shows, where less is mixed up."""
    T = at.ys[0].shape[0] if at.ys[0].ndim > 2 else 0
    xs = [x[:1] if x.ndim > 2 and len(x) == T else x for x in at.xs]
    if T < 2 or all(a is x for a, x in zip(xs, at.xs)):
        return None
    try:
        first = examine(at.case._replace(xs=xs), np.random.default_rng(0), 1, at.scale)
    except Exception:  # these shapes do not fit together
        return None
    if first.agrees or not first.settled:
        return None
    found = entries(first)
    for i, e in enumerate(found):
        if not e.wrong.any():
            continue
        r = e.got[e.wrong & e.telling] / e.true[e.wrong & e.telling]
        if r.size > 1 and np.ptp(r) < 1e-4 * abs(r.mean()):
            cause = "sign" if abs(r.mean() + 1) < 1e-4 else "factor"
            return (
                cause,
                f"with one step, {e.wrong.sum()} of {e.wrong.size} entries of input {i} have the ratio {r.mean():.6g}",
            )
        for ask in (_permuted, _operand):
            if answer := ask(first, e, i):
                return answer[0], f"with one step, {answer[1]}"
    return None


def _details(at: Outcome, found: list[Entries], wrong: list[int]) -> list[str]:
    lines = small(at.xs)
    if wrong:
        i = max(wrong, key=lambda n: float(np.nanmax(abs(found[n].got - found[n].true)) / (found[n].peak or 1)))
        e = found[i]
        j = np.unravel_index(np.nanargmax(np.where(e.wrong, abs(e.got - e.true), -1)), e.got.shape)
        at_j = f" {[int(n) for n in j]}" if e.got.ndim else ""
        lines.append(
            f"largest error: input {i}{at_j}: gradient {number(e.got[j])}, numerical {number(e.true[j])} "
            f"+- {e.error[j]:.0e}, ratio {ratio(e.got[j], e.true[j]):.4g}"
        )
        for n in wrong:
            e = found[n]
            if (e.wrong & e.telling).any():
                r = (e.got / np.where(e.telling, e.true, 1))[e.wrong & e.telling]
                span = f"ratios from {r.min():.4g} to {r.max():.4g}"
                lines.append(f"input {n}: {e.wrong.sum()} of {e.seen.sum()} entries are wrong, {span}")
        right = [str(n) for n in range(len(found)) if n not in wrong]
        if right:
            lines.append(f"right: input {', '.join(right)}")
    if len(at.gs) > 1:
        alone = _outputs(at)
        if 0 < len(alone) < len(at.gs):
            lines.append(f"wrong through output {', '.join(map(str, alone))} only")
    return lines


def _outputs(at: Outcome) -> list[int]:
    """Results through which the gradient is wrong."""
    found = []
    for n in range(len(at.gs)):
        gs = [g if i == n else None for i, g in enumerate(at.gs)]
        numerical, error = slope(at.line, weights(gs, at.ys))
        terms = flat([a * v for a, v in zip(at.pull(gs), at.vs)])
        if abs(terms.sum() - numerical) > 20 * error + 1e-6 * (abs(terms).sum() + abs(numerical)) + 1e-12:
            found.append(n)
    return found


def same(a: np.ndarray, b: np.ndarray, exact: float = 1e-5) -> bool:
    return a.shape == b.shape and bool(np.all(abs(a - b) <= exact * max(abs(b).max(initial=0), 1e-300)))


def _nonlinear(at: Outcome, found: list[Entries], wrong: list[int]) -> Answer:
    twice = at.pull([2 * g for g in at.gs])
    for i in wrong:
        if not same(twice[i], 2 * at.grads[i]):
            kept = same(twice[i], at.grads[i])
            return (
                "cotangent",
                f"twice the cotangent gives {'the same' if kept else 'not twice the'} gradient of input {i}",
            )
    return None


def _stale(at: Outcome, found: list[Entries], wrong: list[int]) -> Answer:
    """Right where the function was called first, or in another history."""
    if at.earlier is None:
        return None
    at.case.vjp([2 * e - x for e, x in zip(at.earlier, at.xs)])
    after = at.case.vjp(at.xs)[1](at.gs)
    before = at.case.vjp(at.earlier)[1](at.gs)
    if any(not same(a, b) for a, b in zip(after, at.grads)):
        return "stale", "the gradient depends on the calls before this one"
    for i in wrong:
        true, _ = one_by_one(at, at.earlier, i, 60)
        seen = np.isfinite(true)
        if not same(before[i][seen], true[seen]):
            return None
    return "stale", "right at the point of the first call, wrong at a later one"


def _size_one(at: Outcome, found: list[Entries], wrong: list[int]) -> Answer:
    """Right when axes of size one are made longer."""
    if not any(1 in x.shape for x in at.xs):
        return None
    rng = np.random.default_rng(0)
    most = max(x.ndim for x in at.xs)
    for axes in [tuple(range(most)), *[(k,) for k in range(most)]]:
        grown = []
        for x in at.xs:
            for k in axes:
                if k < x.ndim and x.shape[k] == 1:
                    x = np.repeat(x, 3, k)
            grown.append(x + 0.02 * rng.uniform(-1, 1, x.shape))
        if all(a.shape == x.shape for a, x in zip(grown, at.xs)):
            continue
        try:
            ys, pull = at.case.vjp(grown)
            gs, vs = draw(rng, ys), draw(rng, grown)
            line = on_line(lambda h: flat(at.case.values([x + h * v for x, v in zip(grown, vs)])), at.scale / 8, 4)
            terms = flat([a * v for a, v in zip(pull(gs), vs)])
        except Exception:  # these shapes do not fit together
            continue
        numerical, error = slope(line, flat(gs))
        if abs(terms.sum() - numerical) <= 20 * error + 1e-6 * abs(terms).sum() and error < 1e-4 * abs(terms).sum():
            return "size one", f"with axis {', '.join(map(str, axes))} of size 3 in place of 1 the gradient is right"
    return None


def _exchanged(at: Outcome, found: list[Entries], wrong: list[int]) -> Answer:
    for i in wrong:
        for j in wrong:
            if i < j and same(found[i].got, found[j].true) and same(found[j].got, found[i].true):
                return "exchanged", f"inputs {i} and {j}"
    return None


def _of_input(at: Outcome, found: list[Entries], i: int) -> tuple[str, str]:
    for ask in (_factor, _permuted, _where, _operand, _broadcast, _axis):
        if answer := ask(at, found[i], i):
            return answer
    return "term", _term_hint(at, found[i], i)


def _factor(at: Outcome, e: Entries, i: int) -> Answer:
    if not e.got[e.seen].any():
        return "zero", f"the gradient of input {i} is 0 everywhere"
    if not e.telling.any() or abs(e.true[e.seen]).max() <= 1e-9 * e.peak:
        return "term", f"f does not depend on input {i}"
    r = e.got[e.telling] / e.true[e.telling]
    spread = np.max(abs(r - r.mean()))
    rest = e.seen & ~e.telling
    if spread > 1e-4 * abs(r.mean()) or abs(r.mean() - 1) < 10 * spread:
        return None
    if not same((e.got - r.mean() * e.true)[rest] + e.peak, np.full(rest.sum(), e.peak), 1e-3):
        return None
    value = float(r.mean())
    if abs(value + 1) < 1e-5:
        return "sign", f"the ratio is -1 in every entry of input {i}"
    sizes = {n: f"{n}, the size of an axis" for a in [*at.xs, *at.ys] for n in a.shape if n > 1}
    known = [text for n, text in sizes.items() if min(abs(value - n), abs(value - 1 / n)) < 1e-5]
    as_size = f" ({'' if value > 1 else '1 / '}{known[0]}: a mean for a sum, or the reverse?)" if known else ""
    return "factor", f"the ratio is {value:.6g} in every entry of input {i}{as_size}"


def _permuted(at: Outcome, e: Entries, i: int) -> Answer:
    if not e.seen.all() or e.got.size < 2:
        return None
    for axes in permutations(range(e.got.ndim)):
        turned = e.true.transpose(axes)
        if axes != tuple(range(e.got.ndim)):
            if same(e.got, turned):
                return "transposition", f"the gradient of input {i} has its axes in the order {axes}"
            if same(e.got.ravel(), turned.ravel()):
                return "transposition", f"the gradient of input {i} was reshaped where it should be transposed"
    if same(np.sort(e.got.ravel()), np.sort(e.true.ravel())):
        flips = [k for k in range(e.got.ndim) if same(e.got, np.flip(e.true, k))]
        how = f"reversed along axis {flips[0]}" if flips else "permuted"
        return "transposition", f"the elements of the gradient of input {i} are {how}"
    return None


def _sums(full: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What may be done by mistake instead of the sum that brings ``full`` to ``shape``."""
    lead = full.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(k + lead for k, n in enumerate(shape) if n == 1 and full.shape[k + lead] > 1)
    if not axes:
        return
    total = full.sum(axes).reshape(shape)
    for name, one in (("first", 0), ("last", -1)):
        index = tuple(one if k in axes else slice(None) for k in range(full.ndim))
        yield f"only the {name} of them arrives", full[index].reshape(shape), total
        if len(axes) == 1:
            yield f"the {name} of them is left out", total - full[index].reshape(shape), total
    yield "their mean is taken", full.mean(axes).reshape(shape), total
    for k in axes:
        yield f"axis {k} is left out of the sum", full.sum(tuple(a for a in axes if a != k)), total
    others = tuple(k for k in range(full.ndim) if k not in axes)
    if others and full.sum(others).size == total.size:
        yield "axis", full.sum(others).reshape(shape), total


def _broadcast(at: Outcome, e: Entries, i: int) -> Answer:
    """Give f the input as broadcasting repeats it, and look what became of the repeated entries' gradients."""
    for y in at.ys:
        try:
            wide = np.array(np.broadcast_to(at.xs[i], y.shape))
            if wide.shape == at.xs[i].shape or not 0 < wide.size <= MOST:
                continue
            xs = [*at.xs[:i], wide, *at.xs[i + 1 :]]
            if not all(same(a, b) for a, b in zip(at.case.values(xs), at.ys)):
                continue
            full, _ = one_by_one(at, xs, i)
        except Exception:  # these shapes do not fit together
            continue
        for what, wrong, total in _sums(full, at.xs[i].shape):
            if wrong.shape == e.got.shape and same(total, e.true, 1e-4) and same(e.got, wrong):
                if what == "axis":
                    return "axis", f"the gradient of input {i} is summed over the other axis"
                return "unbroadcast", f"input {i} is repeated to {y.shape}: {what}"
            if what.startswith("only") and e.true.size > 1:
                part, rest = e.got - e.true, wrong
                big = abs(rest) > 1e-3 * abs(rest).max()
                r = part[big] / rest[big] if part.shape == rest.shape else np.zeros(0)
                if r.size > 1 and np.ptp(r) < 1e-4 * abs(r.mean()):
                    return "unbroadcast", f"input {i} is repeated to {y.shape}: one of the repeats is summed in part"
    if e.seen.all() and e.got.ndim == 1 and same(np.array(e.got.sum()), np.array(e.true.sum())) and e.got.size > 1:
        return "axis", f"the elements of the gradient of input {i} have the right sum, but each is wrong"
    return None


def _where(at: Outcome, e: Entries, i: int) -> Answer:
    """Right in some positions."""
    known = e.wrong | e.telling
    if not (known & ~e.wrong).any():
        return None
    r = e.got[e.wrong & e.telling] / e.true[e.wrong & e.telling]
    if r.size > 1 and abs(r + 1).max() < 1e-5:
        return (
            "sign",
            f"the ratio is -1 in {e.wrong.sum()} of {e.wrong.size} entries of input {i}, the others are right",
        )
    for k in range(e.got.ndim):
        others = tuple(a for a in range(e.got.ndim) if a != k)
        bad, good = e.wrong.any(others), (known & ~e.wrong).any(others)
        if (bad & good).any() or bad.size < 2:
            continue
        where, fine = np.flatnonzero(bad), np.flatnonzero(good)
        if len(fine) and where.max() < fine.min():
            if e.got.ndim > 1 and len(where) > 1:
                return "term", (
                    f"input {i} is right from position {fine.min()} of axis {k} on and wrong before: what later "
                    "positions carry back to earlier ones is missing or wrong"
                )
            return "edge", f"input {i} is wrong before position {fine.min()} of axis {k}"
        if len(fine) and where.min() > fine.max():
            return (
                "edge",
                f"input {i} is wrong from position {where.min()} of axis {k} on, of {bad.size}: a tile's edge?",
            )
        return "edge", f"input {i} is wrong at {where.tolist()[:8]} of axis {k} only"
    if e.wrong.sum() == 1:
        return "edge", f"input {i} is wrong at {[int(n) for n in np.argwhere(e.wrong)[0]]} only"
    return None


def _like(at: Outcome, xs: Arrays, i: int, got: np.ndarray, turn: Callable = np.asarray) -> bool:
    """Whether ``got`` is d<g, f>/dx_i at other inputs xs, turned the same way, along two random directions."""
    rng, g = np.random.default_rng(0), weights(at.gs, at.ys)
    for _ in range(2):
        v = rng.standard_normal(got.shape)
        there = turn(v)
        line = on_line(lambda h: flat(at.case.values([*xs[:i], xs[i] + h * there, *xs[i + 1 :]])), at.scale / 4, 4)
        numerical, error = slope(line, g)
        if not abs((got * v).sum() - numerical) <= 20 * error + 1e-6 * abs(got * v).sum():
            return False
    return True


def _operand(at: Outcome, e: Entries, i: int) -> Answer:
    """Right, had an input been transposed or reversed."""
    if not e.seen.all():
        return None
    for j, x in enumerate(at.xs):
        for k in range(x.ndim if i != j else 0):
            if x.shape[k] > 1 and _like(at, [*at.xs[:j], np.flip(x, k).copy(), *at.xs[j + 1 :]], i, e.got):
                return "transposition", f"the gradient of input {i} takes input {j} reversed along axis {k}"
        if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2:
            continue
        turned = [*at.xs[:j], np.swapaxes(x, -1, -2).copy(), *at.xs[j + 1 :]]
        if _like(at, turned, i, e.got) or (i == j and _like(at, turned, i, e.got, lambda v: np.swapaxes(v, -1, -2))):
            return "transposition", f"the gradient of input {i} takes input {j} the other way round"
        if x.ndim == 2 and np.linalg.cond(x) < 1e6:
            for a, b in ((x, x.T), (x.T, x)):
                columns = e.got.shape[-1:] == x.shape[:1] and same(e.got, e.true @ np.linalg.inv(a) @ b, 1e-4)
                rows = e.got.ndim == 2 and len(e.got) == len(x) and same(e.got, b @ np.linalg.inv(a) @ e.true, 1e-4)
                if columns or rows:
                    return "transposition", f"the gradient of input {i} is multiplied by input {j} the other way round"
    return None


def _residuals(at: Outcome, e: Entries, i: int) -> Iterator[tuple[str, np.ndarray]]:
    """The error divided by what it may be a multiple of."""
    off = e.got - e.true
    yield "1", off
    for name, arrays in (("output", at.ys), ("the cotangent of output", at.gs), ("input", at.xs)):
        for n, w in enumerate(arrays):
            if w.shape == off.shape and (abs(w) > 1e-6).all():
                yield f"{name} {n}", off / w


def _axis(at: Outcome, e: Entries, i: int) -> Answer:
    """The error is, row by row and column by column, the difference of two sums."""
    if not e.seen.all() or e.got.ndim != 2 or min(e.got.shape) < 3:
        return None
    for name, r in _residuals(at, e, i):
        rows, columns = r.mean(1, keepdims=True), r.mean(0, keepdims=True)
        both = rows + columns - r.mean()
        size = abs(r).max()
        varies = min(np.ptp(rows), np.ptp(columns)) > 1e-3 * size
        if varies and abs(r - both).max() < 1e-5 * size:
            return (
                "axis",
                f"the error of input {i} is {name} times the difference of a sum over rows and one over columns",
            )
    return None


def _term_hint(at: Outcome, e: Entries, i: int) -> str:
    if not e.seen.all():
        return f"input {i}"
    for name, r in _residuals(at, e, i):
        if r.size > 1 and np.ptp(r) < 1e-4 * abs(r).max():
            return f"the error of input {i} is {r.mean():.4g} times {name}"
        for k in range(r.ndim):
            if r.shape[k] > 1 and np.ptp(r, k).max() < 1e-4 * abs(r).max() and name != "1":
                return f"the error of input {i} is a multiple of {name}, constant on axis {k}: a missing sum?"
    return f"input {i}"
