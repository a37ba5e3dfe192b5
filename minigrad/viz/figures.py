"""Floor 6: curves and heat maps as PNG or SVG.

A picture is made without a window and without matplotlib's global state, so nothing is left behind. Its colours are
those of Okabe and Ito (2008), which colour-blind people can tell apart; lines differ in their marks and dashes too.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.nn.checkpoint import write_atomically

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
ENDINGS = (".png", ".svg")
STYLE = {
    "font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#dddddd", "grid.linewidth": 0.6, "svg.hashsalt": "minigrad", "svg.fonttype": "path",
}  # fmt: skip


def check_picture(path: str | os.PathLike, also: Sequence[str] = ()) -> Path:
    """That a picture can be written to ``path``; UserError if not. To be asked before a long computation.

    also: other endings that the caller can write, for which matplotlib is not needed

    >>> check_picture("curve.jpeg")
    Traceback (most recent call last):
    minigrad.errors.UserError: [plot curve.jpeg] got the ending '.jpeg', expected one of .png, .svg
    """
    path, where = Path(path), f"plot {path}"
    if path.suffix.lower() not in (*ENDINGS, *also):
        got = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        raise UserError(describe(where, got, f"one of {', '.join((*ENDINGS, *also))}"))
    if not path.parent.is_dir():
        raise UserError(describe(where, f"no folder {path.parent}", "a folder that is there", "make it first"))
    if path.exists() and not path.is_file():
        raise UserError(describe(where, "a folder or a device", "the name of a file"))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(describe(where, "no permission", "a place to write to", "choose another"))
    if path.suffix.lower() not in also:
        _matplotlib()
    return path


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        do = "pip install 'minigrad[plot]'"
        raise UserError(describe("plot", "no module 'matplotlib'", "it installed", do)) from None
    return matplotlib


def grid(
    rows: int = 1, columns: int = 1, *, width: float = 7.5, height: float = 4.5, title: str = ""
) -> tuple[Any, list]:
    """An empty figure of so many inches with a title, and its axes, row by row.

    >>> figure, axes = grid(2, 1)
    >>> len(axes)
    2
    """
    matplotlib = _matplotlib()
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    if title:
        figure.suptitle(title, fontsize=12)
    return figure, axes


def _styles() -> Iterator[dict[str, str]]:
    k = 0
    while True:
        yield {"color": COLOURS[k % 7], "linestyle": DASHES[k % 4], "marker": MARKS[k % 7]}
        k += 1


def curves(ax: Any, series: Mapping[str, tuple[Sequence, Sequence]], x: str, y: str, *, logarithmic: bool = False,
           faint: bool = False, every: int = 0) -> None:  # fmt: skip
    """One line for each name of ``series``, ``{name: (xs, ys)}``; x and y say what the axes are, with units.

    faint: thin lines in the same colours, not in the legend, to lie beside others of the same names
    every: a mark at every so many points; 0: at about twelve of them

    >>> figure, (ax,) = grid()
    >>> curves(ax, {"loss": ([0, 1, 2], [3.0, 2.0, 1.5])}, "step", "nats a character")
    >>> ax.get_xlabel(), len(ax.lines)
    ('step', 1)
    """
    for (name, points), style in zip(series.items(), _styles()):
        xs, ys = (np.asarray(a, float) for a in points)
        xs, ys = (xs[ys > 0], ys[ys > 0]) if logarithmic else (xs, ys)
        if faint:
            ax.plot(xs, ys, linewidth=0.8, alpha=0.8, color=style["color"])
        else:
            ax.plot(
                xs, ys, label=name, linewidth=1.6, markersize=4.5, markevery=every or max(len(xs) // 12, 1), **style
            )
    if logarithmic:
        ax.set_yscale("log")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if len(series) > 1 and not faint:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the lines, never over one


def heat(ax: Any, values: Any, rows: Sequence[str], columns: Sequence[str], *, low: float, high: float) -> Any:
    """A map of ``values`` (R, C) with a name for each row and column; signed where low < 0. Returns what a colour bar
    takes.

    >>> figure, (ax,) = grid()
    >>> image = heat(ax, [[0.0, 1.0]], ["i"], ["a", "b"], low=0.0, high=1.0)
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['a', 'b']
    """
    values = np.asarray(values, float)
    image = ax.imshow(values, aspect="auto", interpolation="nearest", vmin=low, vmax=high,
                      cmap="RdBu_r" if low < 0 else "cividis")  # fmt: skip
    ax.grid(False)
    ax.set_yticks(range(len(rows)), rows)
    words = any(len(c) > 2 for c in columns)
    ax.set_xticks(range(len(columns)), columns, rotation=60 if words else 0, ha="right" if words else "center",
                  rotation_mode="anchor", fontfamily=None if words else "monospace")  # fmt: skip
    ax.tick_params(length=0)
    return image


def alignment(weights: Any, rows: Sequence[str], columns: Sequence[str], title: str, label: str) -> Any:
    """A figure of ``weights`` (R, C) between 0 and 1 as square cells, the darker the larger: the columns' names on top,
    the rows' at the left; the label says what a cell is.

    >>> figure = alignment([[0.9, 0.1]], ["le"], ["the", "cat"], "attention", "share of the row")
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['the', 'cat']
    """
    weights = np.asarray(weights, float)
    inch = 0.3  # of a cell
    wide, high = (inch * (max(map(len, names)) * 0.28 + 1) for names in (rows, columns))  # of the names, about
    size = max(wide + inch * len(columns) + 1.4, 4.0), max(high + inch * len(rows) + 0.8, 3.0)
    figure, (ax,) = grid(width=size[0], height=size[1], title=title)
    image = ax.imshow(weights, aspect="equal", interpolation="nearest", vmin=0.0, vmax=1.0, cmap="Blues")
    ax.grid(False)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(len(columns)), columns, rotation=60 if any(len(c) > 1 for c in columns) else 0,
                  ha="left" if any(len(c) > 1 for c in columns) else "center", rotation_mode="anchor")  # fmt: skip
    ax.spines[:].set_visible(False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for k in range(1, len(rows)):
        ax.axhline(k - 0.5, color="white", linewidth=0.6)
    for k in range(1, len(columns)):
        ax.axvline(k - 0.5, color="white", linewidth=0.6)
    figure.colorbar(image, ax=ax, shrink=min(1.0, 2.4 / (inch * len(rows))), aspect=12, label=label)
    return figure


def bars(ax: Any, values: Sequence[tuple[str, float]], x: str) -> None:
    """A bar for each (name, value), the first on top.

    >>> figure, (ax,) = grid()
    >>> bars(ax, [("pear", 0.9), ("plum", 0.7)], "cosine")
    >>> len(ax.patches)
    2
    """
    ax.barh(range(len(values)), [v for _, v in values], color=COLOURS[0], height=0.7)
    ax.set_yticks(range(len(values)), [name for name, _ in values])
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set_xlabel(x)


def save_picture(figure: Any, path: str | os.PathLike) -> None:
    """Write a figure as PNG or SVG, whole or not at all; the same figure gives the same bytes."""
    path = check_picture(path)
    kind = path.suffix.lower().removeprefix(".")
    memory = io.BytesIO()
    with _matplotlib().rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # in words of any script: boxes say it
        figure.savefig(memory, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    write_atomically(path, memory.getvalue())
