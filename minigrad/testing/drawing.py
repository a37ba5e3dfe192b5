"""Floor 6: strategies for shapes, axes and seeds, of which the others are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.testing.optional import needs_hypothesis

with needs_hypothesis("minigrad.testing.strategies"):
    from hypothesis import strategies as st

SIZES = (0, 1, 2, 3, 15, 16, 17, 31, 32, 33)  # around the widths of vectors
SMALL = (0, 1, 2, 3)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def shapes(draw: Any, sizes: Sequence[int] = SIZES, min_dims: int = 0, max_dims: int = 5) -> tuple[int, ...]:
    """Shapes of ``min_dims`` to ``max_dims`` axes, one of them of any of the ``sizes``, the others 1, 2 or 3.

    >>> from hypothesis import find
    >>> find(shapes(), lambda shape: len(shape) > 1 and min(shape) > 1)
    (2, 2)
    """
    n = draw(st.integers(min_dims, max_dims))
    shape = [draw(st.sampled_from((1, 2, 3))) for _ in range(n)]
    if n:
        shape[draw(st.integers(0, n - 1))] = draw(st.sampled_from(sizes))
    return tuple(shape)


@st.composite
def broadcastable(
    draw: Any, count: int, sizes: Sequence[int] = SIZES, max_dims: int = 5
) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """``count`` shapes that broadcast together, and the shape that they give.

    >>> from hypothesis import find
    >>> find(broadcastable(2), lambda found: found[1] == (2, 3))[1]
    (2, 3)
    """
    full = draw(shapes(sizes, 0, max_dims))
    found = []
    for _ in range(count):
        shape = [1 if draw(st.sampled_from((True, False, False))) else n for n in full]
        found.append(tuple(shape[draw(st.sampled_from((0, 0, *range(len(full) + 1)))) :]))
    return found, np.broadcast_shapes(*found)


def axis_of(shape: Sequence[int]) -> st.SearchStrategy[int]:
    """One axis, counted from the front or the end."""
    return st.integers(-len(shape), len(shape) - 1)


@st.composite
def axes_of(draw: Any, shape: Sequence[int]) -> Any:
    """None, an axis, or several of them; negative ones too."""
    if not shape or draw(st.booleans()):
        return None
    some = draw(st.lists(st.integers(0, len(shape) - 1), unique=True))
    some = [a - len(shape) if draw(st.booleans()) else a for a in some]
    return some[0] if len(some) == 1 else tuple(some)
