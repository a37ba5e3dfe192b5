"""Floor 6: the errors for what cannot be judged: it answers differently each time, is not smooth, or is too coarse."""

from __future__ import annotations

import numpy as np

from minigrad.testing.alone import closer
from minigrad.testing.cause import explain
from minigrad.testing.compare import Outcome, finite
from minigrad.testing.report import fail

TINY = 1e-12  # relative to what a derivative of 1 would give: rounding, where larger numbers cancel


def stands_still(at: Outcome) -> bool:
    """Whether values hardly change along the line, as where a large number was subtracted."""
    return all(len(np.unique(values)) <= 3 for values in np.transpose([*at.line.plus, *at.line.minus]))


def explained(at: Outcome) -> tuple[str, str, list[str]]:
    """The likely cause, a hint and details, as far as f can be called near the inputs."""
    try:
        return explain(at)
    except Exception as error:  # whatever foreign code raises
        return "term", f"not looked at entry by entry, as f fails nearby: {type(error).__name__}: {error}", []


def clearest(at: Outcome) -> Outcome:
    """Of what is only just wrong, the part that is wrong in full."""
    return next(closer(at), at) if at.settled and at.difference < 1e-5 else at


def repeated(text: str, at: Outcome, who: str) -> None:
    """Raise if the same inputs give different results, or gradients, with every call."""
    for what, call in (("the function", at.case.values), (who, lambda xs: at.case.vjp(xs)[1](at.gs))):
        call(at.xs)  # what remembers the call before is stale, not random
        a, b, c = call(at.xs), call(at.xs), call(at.xs)
        if all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b)):
            continue
        if all(np.allclose(y - x, z - y, rtol=1e-6) for x, y, z in zip(a, b, c)):
            said = f"{text}but {what} gives more with every call on the same inputs"
            raise fail(said, "stale", hint="it adds to what an earlier call left: begin with zeros")
        do = "draw random numbers outside of it and pass them in"
        raise fail(f"{text}but two calls of {what} on the same inputs differ", "random", hint=do)


def unsettled(text: str, at: Outcome) -> Exception:
    """The error where values near the inputs give no derivative."""
    if not finite([*at.line.plus, *at.line.minus]):
        steps = [h for h, *ends in zip(*at.line) if not finite(ends)]
        what = f"raises {at.failure}" if at.failure else "is not finite"
        far = max(float(abs(v).max(initial=0)) for v in at.vs) * max(steps)
        said = f"{text}but f {what} a step of {far:.1g} away; move the inputs or lower scale"
        return fail(said, "kink", hint="the inputs are at the edge of where f is defined")
    return fail(
        f"{text}but the numerical derivative, {at.numerical:.12g}, does not settle (+- {at.error:.1g}): there is a "
        f"kink or a jump within {at.scale:g} of the inputs, or f varies too fast; move the inputs or lower scale",
        "kink",
    )


def blurred(text: str, at: Outcome) -> Exception:
    """The error where any gradient would pass."""
    y = max((float(abs(a).max(initial=0)) for a in at.ys), default=0.0)
    return fail(
        f"{text}numerical {at.numerical:.12g}, but values near {y:.1g} show it to +- {at.allowed:.1g} only",
        "cannot be judged",
        hint="subtract what is constant from the result, or scale the inputs",
    )
