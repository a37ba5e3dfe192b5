"""Floor 6: what the entries of one wrong gradient look like: a factor, a permutation, a block, a sum over an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from minigrad.testing.compare import Arrays, Outcome, weights
from minigrad.testing.entries import MOST, Entries, one_by_one
from minigrad.testing.numeric import flat, on_line, slope

Answer = tuple[str, str] | None


def same(a: np.ndarray, b: np.ndarray, exact: float = 1e-5) -> bool:
    return a.shape == b.shape and bool(np.all(abs(a - b) <= exact * max(abs(b).max(initial=0), 1e-300)))


def slope_at(at: Outcome, xs: Arrays, i: int, v: np.ndarray) -> tuple[float, float]:
    """The numerical derivative at other inputs along v in input i, and its error."""
    line = on_line(lambda h: flat(at.case.values([*xs[:i], xs[i] + h * v, *xs[i + 1 :]])), at.scale / 4, 4)
    return slope(line, weights(at.gs, at.ys))


def of_input(at: Outcome, e: Entries, i: int) -> tuple[str, str]:
    """The likely cause and a hint, from the entries of input i."""
    for ask in (_factor, permuted, _where, operand, _adjoint, _broadcast, _axis):
        if answer := ask(at, e, i):
            return answer
    return "term", _term_hint(at, e, i)


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
    other = _ratio_elsewhere(at, e, i, value)
    if other and e.telling.sum() == 1:
        return "term", f"the ratio is {value:.6g}, but {other:.6g} at other inputs"
    if abs(value + 1) < 1e-5:
        return "sign", f"the ratio is -1 in every entry of input {i}"
    sizes = {n: f"{n}, the size of an axis" for a in [*at.xs, *at.ys] for n in a.shape if n > 1}
    known = [text for n, text in sizes.items() if min(abs(value - n), abs(value - 1 / n)) < 1e-5]
    as_size = f" ({'' if value > 1 else '1 / '}{known[0]}: a mean for a sum, or the reverse?)" if known else ""
    but = f", but {other:.6g} at other inputs: it depends on them" if other else ""
    return "factor", f"the ratio is {value:.6g} in every entry of input {i}{as_size}{but}"


def _ratio_elsewhere(at: Outcome, e: Entries, i: int, value: float) -> float:
    """The ratio at inputs nearer to zero, or farther from it, where it is another; else 0."""
    v = np.where(e.telling, np.sign(e.true), 0.0)
    for span in ((0.8, 0.9), (1.1, 1.2)):
        xs = [np.where(x == 0, at.scale, x * np.random.default_rng(0).uniform(*span, x.shape)) for x in at.xs]
        try:
            numerical, error = slope_at(at, xs, i, v)
            found = float((at.case.vjp(xs)[1](at.gs)[i] * v).sum()) / numerical
        except Exception:  # f is not defined there
            continue
        if np.isfinite(found):
            settled = 20 * error < 1e-3 * abs(numerical)
            return (
                found if settled and abs(found - value) > 0.01 * abs(value - 1) + 40 * error / abs(numerical) else 0.0
            )
    return 0.0


def permuted(at: Outcome, e: Entries, i: int) -> Answer:
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
        if answer := _gate(at, bad, r, i, k):
            return answer
        early = "" if e.got[e.wrong].any() else ": no gradient arrives there, as after a loop that ends too early"
        if len(fine) and where.max() < fine.min():
            if e.got.ndim > 1 and len(where) > 1:
                return "term", (
                    f"input {i} is right from position {fine.min()} of axis {k} on and wrong before: what later "
                    "positions carry back to earlier ones is missing or wrong"
                )
            return "edge", f"input {i} is wrong before position {fine.min()} of axis {k}{early}"
        first = where.min()
        if first > fine.max():
            if first == 1 < len(where):
                return "term", (
                    f"input {i} is right at position 0 of axis {k} and wrong after it: what one position hands to the "
                    "next, or a sum that is not begun anew for each"
                )
            tile = ": a tile's edge?" if first % 4 == 0 else ""
            return "edge", f"input {i} is wrong from position {first} of axis {k} on, of {bad.size}{early or tile}"
        if 2 * len(fine) <= len(where):
            return "term", (
                f"input {i} is right only at {fine.tolist()[:8]} of axis {k}: where more terms meet, some are lost "
                "(= for +=?)"
            )
        return "edge", f"input {i} is wrong at {where.tolist()[:8]} of axis {k} only{early}"
    if e.wrong.sum() == 1:
        return "edge", f"input {i} is wrong at {[int(n) for n in np.argwhere(e.wrong)[0]]} only"
    return None


def _gate(at: Outcome, bad: np.ndarray, r: np.ndarray, i: int, k: int) -> Answer:
    """Wrong in one of three or four blocks as long as an axis of the output: weights hold the gates of a cell so."""
    for count in (3, 4):
        n = bad.size // count
        if n * count != bad.size or n < 2 or not any(n in y.shape for y in at.ys):
            continue
        blocks = bad.reshape(count, n)
        if blocks.all(1).sum() == blocks.any(1).sum() == 1:
            which = int(blocks.all(1).argmax())
            place = f"block {which + 1} of {count} (positions {which * n} to {which * n + n - 1}) of axis {k}"
            ratio = f", by a ratio of {r.mean():.6g}" if r.size and np.ptp(r) < 1e-4 * abs(r.mean()) else ""
            return "edge", f"input {i} is wrong in {place} only{ratio}: one gate of a cell?"
    return None


def _like(at: Outcome, xs: Arrays, i: int, got: np.ndarray, turn: Callable = np.asarray) -> bool:
    """Whether ``got`` is d<g, f>/dx_i at other inputs xs, turned the same way, along two random directions."""
    rng = np.random.default_rng(0)
    for _ in range(2):
        v = rng.standard_normal(got.shape)
        numerical, error = slope_at(at, xs, i, turn(v))
        if not abs((got * v).sum() - numerical) <= 20 * error + 1e-6 * abs(got * v).sum():
            return False
    return True


def operand(at: Outcome, e: Entries, i: int) -> Answer:
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


def _adjoint(at: Outcome, e: Entries, i: int) -> Answer:
    """The cotangent is multiplied from the left by a matrix that should be transposed: p @ g for p.T @ g."""
    x, g = at.xs[i], at.gs[0]
    if len(at.ys) > 1 or g is None or g.shape != x.shape or x.ndim < 2 or x.shape[-2] < 2:
        return None
    for column in (0, -1):  # such a product keeps columns apart
        only = np.zeros(g.shape)
        only[..., column] = g[..., column]
        rest = np.array(at.pull([only])[i])
        rest[..., column] = 0
        if rest.any():
            return None
    b = np.random.default_rng(0).standard_normal(g.shape)
    numerical, error = slope_at(at, at.xs, i, b)
    terms = at.pull([b])[i] * g
    if abs(terms.sum() - numerical) <= 20 * error + 1e-6 * abs(terms).sum():
        return "transposition", f"a matrix that multiplies the cotangent on the way to input {i} should be transposed"
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
