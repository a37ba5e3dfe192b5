"""Floor 7: the recurrent cells of a language model by name: those of ``nn``, and the user's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from minigrad import nn
from minigrad.cli.load import function
from minigrad.errors import UserError, describe
from minigrad.nn.recurrent import Recurrent

CELLS: dict[str, tuple[Any, dict[str, Any], int]] = {  # layer, its options, how many times H rows its U has
    "lstm": (nn.LSTM, {}, 4),
    "gru": (nn.GRU, {}, 3),
    "rnn": (nn.RNN, {}, 1),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}, 1),
    "gru-after": (nn.GRU, {"reset": "after"}, 3),
    "gru-simple": (nn.GRU, {"relevance": False}, 2),
    "lstm-peephole": (nn.LSTM, {"peepholes": True}, 4),
    "lstm-coupled": (nn.LSTM, {"coupled": True}, 3),
    "lstm-layernorm": (nn.LSTM, {"layer_norm": True}, 4),
}
EXPECTED = f"one of {', '.join(CELLS)}, a name given to register_cell, or FILE.py:NAME, in or below this folder"


def is_cell(name: Any) -> bool:
    """Whether it may name a cell: a known one, or FILE.py:NAME. Model files hold such names, and to load one runs the
    file, so it must not lie just anywhere: in or below the current folder."""
    if not isinstance(name, str):
        return False
    home = Path(name.rpartition(":")[0])
    return name in CELLS or (home.suffix == ".py" and not home.is_absolute() and ".." not in home.parts)


def cell_of(name: str, where: str = "") -> tuple[Any, dict[str, Any], int]:
    """A cell as in ``CELLS``; UserError that begins with ``where`` if its file does not hold it."""
    if name in CELLS:
        return CELLS[name]
    home = Path(name.rpartition(":")[0])
    try:
        return _loaded(name, home.stat().st_mtime_ns if home.is_file() else 0)
    except UserError as error:
        raise UserError(f"[{where}] {error}" if where else str(error)) from None


@cache  # the compiler knows a cell by its identity
def _loaded(name: str, modified: int) -> tuple[Any, dict[str, Any], int]:
    path, _, word = name.rpartition(":")
    if modified and word not in re.findall(r"\w+", Path(path).read_text(errors="replace")):  # another file: not run
        raise UserError(describe(path, f"no {word!r} in it", "a file with this cell"))
    return _entry(function("cell", name, "a cell (p, x_t, state) -> (state, y_t) in a file"))


def _entry(cell: Callable | type[Recurrent]) -> tuple[Any, dict[str, Any], int]:
    layer = cell if isinstance(cell, type) and issubclass(cell, Recurrent) else nn.layer_of(cell)
    return layer, {}, layer.gates


def register_cell(name: str, cell: Callable | type[Recurrent]) -> None:
    """Let ``LanguageConfig(cell=name)`` mean an own cell: a function that ``nn.layer_of`` takes, or a class made by it
    or derived from ``nn.recurrent.Recurrent``. A saved model is loaded again where the name was registered before.

    >>> import minigrad as mg
    >>> from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel
    >>> def leaky(p, x, h):
    ...     h = 0.9 * h + 0.1 * mg.tanh(x @ p.W.T + h @ p.U.T + p.b)
    ...     return h, h
    >>> register_cell("leaky", leaky)
    >>> LanguageModel(LanguageConfig(cell="leaky", hidden=8), CharVocabulary.of("abc"), generator=0).recurrent
    leaky(584 parameters)
    """
    if not name.isidentifier() or name in BUILT_IN:
        raise UserError(describe("register_cell", repr(name), "a new name of letters, digits and underscores"))
    CELLS[name] = _entry(cell)


BUILT_IN = tuple(CELLS)
