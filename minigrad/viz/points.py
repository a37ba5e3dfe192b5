"""Floor 6: points with their names beside them, none over another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.viz.figures import COLOURS, _matplotlib

DIRECTIONS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)], float)
RINGS = (3.0, 8.0, 15.0, 24.0, 36.0)  # points between a name and its place
MARK = 2.5  # radius of a place, in points


class Drawn(NamedTuple):
    left_out: list[str]  # names for which there was no room
    no_letters: list[str]  # names with letters that the font does not have


def names_beside(ax: Any, xy: Any, names: Sequence[str], *, size: float = 8.0) -> Drawn:
    """A dot for each row of xy (N, 2) and its name beside it, where it covers no other name and no other dot.

    The first names choose first; one that is not close to its dot gets a line to it. To be called last: it fixes the
    layout of the figure.

    >>> from minigrad.viz import grid
    >>> figure, (ax,) = grid()
    >>> names_beside(ax, [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]], ["pear", "plum", "$x_1$"])
    Drawn(left_out=[], no_letters=[])
    >>> [text.get_text() for text in ax.texts]
    ['pear', 'plum', '$x_1$']
    """
    _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties, findfont, get_font

    xy, figure = np.asarray(xy, float).reshape(len(names), 2), ax.figure
    ax.scatter(*xy.T, s=(2 * MARK) ** 2 / 2, color=COLOURS[0], linewidths=0, alpha=0.8, zorder=3)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.margins(0.08)
    ax.set_aspect("equal", adjustable="datalim")
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer, pixel = canvas.get_renderer(), figure.dpi / 72  # of a point
    properties = FontProperties(size=size)
    font = get_font(findfont(properties))
    shown = ["".join(c if c.isprintable() and font.get_char_index(ord(c)) else "\ufffd" for c in n) for n in names]
    dots = ax.transData.transform(xy) / pixel  # (N, 2) in points, as all that follows
    bounds = np.array(ax.bbox.extents) / pixel
    taken = np.concatenate([dots - MARK, dots + MARK], 1)  # (N, 4): left, bottom, right, top
    left_out = []
    boxes = np.empty_like(taken)
    count = 0
    line = renderer.get_text_width_height_descent("lp", properties, False)[1]
    for i, text in enumerate(shown):
        width, height, _ = renderer.get_text_width_height_descent(text or " ", properties, False)
        height = max(height, line)  # as matplotlib has it
        half = np.array([width, height]) / pixel / 2
        away = [np.sign(u) * half + ring * u / np.hypot(*u) for ring in RINGS for u in DIRECTIONS]
        centres = dots[i] + np.array(away)  # (40, 2)
        places = np.concatenate([centres - half - 0.5, centres + half + 0.5], 1)  # (40, 4)
        inside = (places[:, :2] >= bounds[:2]).all(1) & (places[:, 2:] <= bounds[2:]).all(1)
        own = np.abs(dots - dots[i]).max(1) < 1e-6
        crowded = _meet(places, boxes[:count]) | _meet(places, taken[~own]) | ~inside
        if crowded.all():
            left_out.append(names[i])
            continue
        k = int(crowded.argmin())
        boxes[count], count = places[k], count + 1
        arrow = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": MARK}
        ax.annotate(
            text, xy[i], centres[k] - dots[i], textcoords="offset points", ha="center", va="center", size=size,
            parse_math=False, arrowprops=arrow if k >= len(DIRECTIONS) else None,
        ).set_in_layout(False)  # fmt: skip
    return Drawn(left_out, [n for n, s in zip(names, shown) if s != n])


def _meet(places: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(K,): whether each of places (K, 4) covers a part of any of boxes (M, 4)."""
    a, b = places[:, None], boxes[None]
    return ((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(2).any(1)
