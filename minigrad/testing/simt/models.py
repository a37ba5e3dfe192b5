"""Floor 6: what instructions mean in the emulator: a Python function for each, by name.

A ``model`` is called by one thread. A ``collective`` is called once by a whole warp: it gets the arguments of the 32
lanes, in order, and gives their 32 results.

    @model("exp2_fast")
    def _(x):
        return np.float32(np.exp2(np.float32(x)))

    @collective("sum_of_warp")
    def _(lanes):
        return [sum(value for (value,) in lanes)] * 32
"""

from __future__ import annotations

from collections.abc import Callable

MODELS: dict[str, Callable] = {}  # of words and instructions, by name
COLLECTIVES: dict[str, Callable[[list[tuple]], list]] = {}  # of warps, by name


def model(name: str) -> Callable:
    """Decorator: the function is what the instruction ``name`` does."""

    def register(function: Callable) -> Callable:
        MODELS[name] = function
        return function

    return register


def collective(name: str) -> Callable:
    """Decorator: the function takes a list of the arguments of all 32 lanes and gives a list of their results."""

    def register(function: Callable) -> Callable:
        from minigrad.testing.simt.vocabulary import FULL, current

        def meet(group: list) -> None:
            group = sorted(group, key=lambda t: t.lane)
            for t, value in zip(group, function([t.value for t in group])):
                t.value = value

        COLLECTIVES[name] = meet
        MODELS[name] = lambda *args: current().pause(("warp", name, FULL), args)
        return function

    return register
