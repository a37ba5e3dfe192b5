"""Floor 6: from the entries of a wrong gradient to what is probably wrong with it."""

from __future__ import annotations

import numpy as np

from minigrad.testing.compare import Arrays, Outcome, draw, examine, weights
from minigrad.testing.entries import Entries, entries
from minigrad.testing.numeric import flat, on_line, slope
from minigrad.testing.patterns import Answer, of_input, operand, permuted, same, slope_at
from minigrad.testing.report import ratio, small


def explain(at: Outcome) -> tuple[str, str, list[str]]:
    """The likely cause (a key of ``CAUSES``), a hint, and lines about the entries."""
    found = entries(at)
    wrong = [i for i, e in enumerate(found) if e.wrong.any()]
    details = _details(at, found, wrong)
    if not wrong:
        return "term", _unseen(found), details
    for ask in (_history, _nonlinear, _size_one, _exchanged):
        if answer := ask(at, found, wrong):
            return *answer, details
    answers = [of_input(at, found[i], i) for i in wrong]
    for name, hint in answers:  # what is passed on to other inputs is wrong in more complicated ways
        if name != "term":
            return name, hint, details
    if answer := _one_step(at):
        return *answer, details
    return *answers[0], details


def _unseen(found: list[Entries]) -> str:
    """What is known where no wrong entry was met."""
    for i, e in enumerate(found):
        if not e.seen.all():
            looked = f"{e.seen.sum()} of {e.seen.size} entries of input {i} were looked at, and they are right"
            return f"{looked}: wrong ones are among the others"
    return "single entries look right: the error is small beside the others"


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
        for ask in (permuted, operand):
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
            f"largest error: input {i}{at_j}: gradient {e.got[j]:.8g}, numerical {e.true[j]:.8g} "
            f"+- {e.error[j]:.0e}, ratio {_near(ratio(e.got[j], e.true[j]))}"
        )
        for n in wrong:
            e = found[n]
            if (e.wrong & e.telling).any():
                r = (e.got / np.where(e.telling, e.true, 1))[e.wrong & e.telling]
                span = f"ratios from {_near(r.min())} to {_near(r.max())}"
                lines.append(f"input {n}: {e.wrong.sum()} of {e.seen.sum()} entries are wrong, {span}")
        right = [str(n) for n in range(len(found)) if n not in wrong]
        if right:
            lines.append(f"right: input {', '.join(right)}")
    if len(at.gs) > 1:
        alone = _outputs(at)
        if 0 < len(alone) < len(at.gs):
            lines.append(f"wrong through output {', '.join(map(str, alone))} only")
    return lines


def _near(r: float) -> str:
    """A ratio, whose distance from 1 matters."""
    return f"1 {'+' if r > 1 else '-'} {abs(r - 1):.1e}" if 0 < abs(r - 1) < 1e-3 else f"{r + 0.0:.4g}"


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


def _history(at: Outcome, found: list[Entries], wrong: list[int]) -> Answer:
    """Whether the gradient at these inputs depends on the calls before."""
    one, two, three = (at.case.vjp(at.xs)[1](at.gs) for _ in range(3))
    changed = [i for i, (a, b) in enumerate(zip(two, three)) if not same(a, b)]
    if changed:
        if all(same(three[i] - two[i], two[i] - one[i]) for i in changed):
            return "stale", f"the gradient of input {changed[0]} grows with every call: added to what the last one left"
        return "random", "two calls on the same inputs, one after the other, give different gradients"
    if any(not same(a, b) for a, b in zip(one, two)):
        return "stale", "the gradient depends on the call before this one"
    try:
        return _other_points(at, found, wrong, at.earlier, two) if at.earlier else None
    except Exception:  # f is not defined at some of them
        return None


def _other_points(at: Outcome, found: list[Entries], wrong: list[int], earlier: Arrays, kept: Arrays) -> Answer:
    """``earlier`` is where f was called first, ``kept`` are the gradients of two calls in a row."""
    shift = [e - x for e, x in zip(earlier, at.xs)]
    at.case.vjp([x + 2 * s for x, s in zip(at.xs, shift)])
    if any(not same(a, b) for before in (at.grads, at.case.vjp(at.xs)[1](at.gs)) for a, b in zip(before, kept)):
        return "stale", "the gradient depends on the calls before this one"
    first, half, across = (_right_at(at, found, wrong, [x + k * s for x, s in zip(at.xs, shift)]) for k in (1, 0.5, -1))
    if first and half and across:
        return "ties", "right at points to both sides of these inputs, wrong at them"
    if first and not half and not across:
        return "stale", "right at the point of the first call, wrong at later ones"
    return None


def _right_at(at: Outcome, found: list[Entries], wrong: list[int], xs: Arrays) -> bool:
    """Whether the entries that are wrong are right at other inputs: their errors, added up, are."""
    grads = at.case.vjp(xs)[1](at.gs)
    for i in wrong:
        off = np.where(found[i].wrong, found[i].got - found[i].true, 0.0)
        v = np.sign(off)
        numerical, error = slope_at(at, xs, i, v)
        if not abs((grads[i] * v).sum() - numerical) + 20 * error < 0.01 * abs(off).sum():
            return False
    return True


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
