"""Floor 6: pictures of figures, on matplotlib (``pip install 'minigrad[plot]'``), and coloured text for a terminal."""

from minigrad.viz.figures import alignment, bars, check_picture, curves, grid, heat, save_picture
from minigrad.viz.points import Drawn, names_beside
from minigrad.viz.terminal import on_colour, table

__all__ = [
    "Drawn", "alignment", "bars", "check_picture", "curves", "grid", "heat", "names_beside", "on_colour",
    "save_picture", "table",
]  # fmt: skip
