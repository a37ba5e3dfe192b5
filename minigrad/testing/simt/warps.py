"""Floor 6: functions of a warp: each lane brings a value, and gets one when all lanes of the mask are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.testing.simt.here import cuda
from minigrad.testing.simt.models import COLLECTIVES, FULL


def _sync(group: list[Any]) -> None:
    if cuda.launch.races:
        cuda.launch.clocks.meet(t.number for t in group)


def _undefined(like: Any) -> Any:
    """What a lane gets from one that does not take part."""
    return type(like)(np.nan) if isinstance(like, (float, np.floating)) else type(like)(0x7FFFFFFF)


def _shuffle(source: Callable[[int, int, int], int]) -> Callable:
    """``source(lane, argument, width)``: the lane whose value is got."""

    def meet(group: list[Any]) -> None:
        values = {t.lane: t.value[0] for t in group}
        found = []
        for t in group:
            value, argument, width = t.value
            lane = source(t.lane, argument, width)
            found.append(values[lane] if lane in values else _undefined(value))
        for t, value in zip(group, found):
            t.value = value

    return meet


def _up(lane: int, delta: int, width: int) -> int:
    return lane - delta if lane % width >= delta else lane


def _down(lane: int, delta: int, width: int) -> int:
    return lane + delta if lane % width + delta < width else lane


def _xor(lane: int, bits: int, width: int) -> int:
    return lane ^ bits if (lane ^ bits) // width <= lane // width else lane


def _all_get(result: Callable[[list[Any]], Any]) -> Callable:
    def meet(group: list[Any]) -> None:
        found = result(group)
        for t in group:
            t.value = found

    return meet


def _ballot(group: list[Any]) -> int:
    return sum(1 << t.lane for t in group if t.value)


def _match_any(group: list[Any]) -> None:
    lanes: dict[Any, int] = {}
    for t in group:
        lanes[t.value] = lanes.get(t.value, 0) | 1 << t.lane
    for t in group:
        t.value = lanes[t.value]


def _match_all(group: list[Any]) -> tuple[int, bool]:
    same = all(t.value == group[0].value for t in group)
    return (sum(1 << t.lane for t in group) if same else 0), same


COLLECTIVES.update(
    syncwarp=_sync, shfl_sync=_shuffle(lambda lane, i, width: lane // width * width + i % width),
    shfl_up_sync=_shuffle(_up), shfl_down_sync=_shuffle(_down), shfl_xor_sync=_shuffle(_xor),
    ballot_sync=_all_get(_ballot), all_sync=_all_get(lambda group: all(t.value for t in group)),
    any_sync=_all_get(lambda group: any(t.value for t in group)),
    eq_sync=_all_get(lambda group: len({bool(t.value) for t in group}) == 1),
    match_any_sync=_match_any, match_all_sync=_all_get(_match_all),
    block=lambda group: None, block_and=_all_get(lambda group: all(t.value for t in group)),
    block_or=_all_get(lambda group: any(t.value for t in group)),
    block_count=_all_get(lambda group: sum(bool(t.value) for t in group)),
)  # fmt: skip


def _shuffling(name: str) -> Callable:
    return lambda mask, value, by, width=32: cuda.launch.pause(
        ("warp", name, int(mask) & FULL), (value, int(by), width)
    )


def _voting(name: str) -> Callable:
    return lambda mask, value: cuda.launch.pause(("warp", name, int(mask) & FULL), value)


def _syncwarp(mask: int = FULL) -> None:
    cuda.launch.pause(("warp", "syncwarp", int(mask) & FULL))


WORDS: dict[str, Callable] = {
    "syncwarp": _syncwarp,
    "lanemask_lt": lambda: (1 << cuda.laneid) - 1,
    **{name: _shuffling(name) for name in ("shfl_sync", "shfl_up_sync", "shfl_down_sync", "shfl_xor_sync")},
    **{
        name: _voting(name)
        for name in ("ballot_sync", "all_sync", "any_sync", "eq_sync", "match_any_sync", "match_all_sync")
    },
}
