"""Floor 6: what instructions mean in the emulator: a Python function for each, by name.

A ``model`` is called by one thread. A ``collective`` is called once by a whole warp: it gets the arguments of the 32
lanes, in order, and gives their 32 results.

    @model("square_fast")
    def _(x):
        return np.float32(x) * np.float32(x)

    @collective("sum_of_warp")
    def _(lanes):
        return [sum(value for (value,) in lanes)] * 32

The name is that of the word in the kernel: an instruction as in ``kernels/cuda/language.py``, or an intrinsic of
``numba.cuda.extending``. Memory is read and written through a ``Place`` (``memory.py``), which addresses are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.testing.simt.faults import DivergenceError
from minigrad.testing.simt.here import cuda

MODELS: dict[str, Callable] = {}  # of words and instructions, by name
COLLECTIVES: dict[str, Callable[[list[Any]], None]] = {}  # of warps: takes the threads that meet, gives their values
PAUSING = {  # a kernel that uses none of these runs each thread from its beginning to its end
    "syncthreads", "syncthreads_and", "syncthreads_or", "syncthreads_count", "syncwarp", "this_grid", "grid_barrier",
    "group_barrier", "load_acquire", "cas", "compare_and_swap", "nanosleep", "shfl_sync", "shfl_up_sync",
    "shfl_down_sync", "shfl_xor_sync", "ballot_sync", "all_sync", "any_sync", "eq_sync", "match_any_sync",
    "match_all_sync",
}  # fmt: skip
FULL = 0xFFFFFFFF


def model(name: str) -> Callable:
    """Decorator: the function is what the instruction ``name`` does."""

    def register(function: Callable) -> Callable:
        MODELS[name] = function
        return function

    return register


def collective(name: str) -> Callable:
    """Decorator: the function takes a list of the arguments of all 32 lanes and gives a list of their results."""

    def register(function: Callable) -> Callable:
        def meet(group: list) -> None:
            if len(group) < 32:
                raise DivergenceError(f"{name} needs all 32 lanes of a warp; {len(group)} are there")
            group = sorted(group, key=lambda t: t.lane)
            for t, value in zip(group, function([t.value for t in group])):
                t.value = value

        COLLECTIVES[name] = meet
        MODELS[name] = lambda *args: cuda.launch.pause(("warp", name, FULL), args)
        PAUSING.add(name)
        return function

    return register
