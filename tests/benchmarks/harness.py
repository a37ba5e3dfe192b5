"""Time several ways to do the same thing in turns, and print medians and ratios.

Machines are shared: an absolute time means little, the ratio of two medians taken in turns means more.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def interleave(sides: dict[str, Callable[[], object]], seconds: float = 1.5, pause: float = 0.0) -> dict[str, float]:
    """Median time of one call of each side, in seconds; the sides take turns, each turn some milliseconds long.

    ``pause`` lets the threads of another library's pool go to sleep before a turn.
    """
    calls = {}
    for name, run in sides.items():
        run()
        start = time.perf_counter()
        run()
        calls[name] = max(1, int(0.005 / max(time.perf_counter() - start, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds * len(sides)
    while time.perf_counter() < end or len(times[next(iter(times))]) < 5:
        for name, run in sides.items():
            if pause:
                time.sleep(pause)
            run()
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(t) for name, t in times.items()}


def report(title: str, medians: dict[str, float], unit: float = 1e-6, name: str = "us", note: str = "") -> None:
    """One line: minigrad's time, and each other's time divided by it (above 1: minigrad is faster)."""
    own = medians["minigrad"]
    others = "  ".join(
        f"{other} {t / unit:.3g} {name} = {t / own:.2f}x" for other, t in medians.items() if other != "minigrad"
    )
    print(f"{title:38} minigrad {own / unit:8.3g} {name}   {others}   {note}".rstrip(), flush=True)
