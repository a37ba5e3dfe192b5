"""Floor 6: ``minigrad explain``: how the compiler sees a cell, one of ``nn`` or a user's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import numpy as np

from minigrad import nn
from minigrad.cli.load import function
from minigrad.compiler import explain, scan
from minigrad.engine import Tensor
from minigrad.errors import UserError, describe

PARTS = ("graph", "gradients", "plan", "kernels")
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (nn.RNN, {}), "gru": (nn.GRU, {}), "gru-after": (nn.GRU, {"reset": "after"}), "lstm": (nn.LSTM, {}),
    "lstm-peepholes": (nn.LSTM, {"peepholes": True}), "lstm-layer-norm": (nn.LSTM, {"layer_norm": True}),
}  # fmt: skip
_EXPECTED = f"one of {', '.join(LAYERS)}, or FILE.py:FUNCTION, a cell (params, x_t, state) -> (state, y_t)"


def _zeros(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


def _sizes(option: str, text: str) -> tuple[str, tuple[int, ...]]:
    """``W=8x3`` is ("W", (8, 3))."""
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(n) for n in sizes.split("x")) if sizes else ()
    except ValueError:
        shape = (0,)
    if not name.isidentifier() or any(n < 1 for n in shape):
        raise UserError(describe(f"--{option}", text, "NAME=SIZES such as W=8x3, or NAME= for a number"))
    return name, shape


def _explained(cell: Any, params: Any, inputs: int, widths: tuple[int, ...]) -> str:
    states = tuple(_zeros(2, n) for n in widths)
    return explain(scan, cell, params, _zeros(1, 2, inputs), states if len(states) > 1 else states[0])


def _own(where: str, inputs: int, state: tuple[int, ...], param: tuple[str, ...]) -> str:
    shapes = dict(_sizes("param", text) for text in param)
    params = SimpleNamespace(**{name: _zeros(*shape) for name, shape in shapes.items()})
    text = _explained(function("explain", where, _EXPECTED), params, inputs, state)
    if "by its definition: it fails" in text:
        raise UserError(describe(where, text.partition("it fails: ")[2], "a cell of these sizes and parameters"))
    return text


def _layer(name: str, inputs: int, hidden: int) -> str:
    make, options = LAYERS[name]
    layer = make(inputs, hidden, generator=0, **options)
    return _explained(layer.cell(), layer.cell_parameters("l0"), inputs, layer.widths())


@click.command("explain")
@click.argument("cell")
@click.option("--input", "inputs", type=click.IntRange(1), default=3, show_default=True, help="width of x_t")
@click.option("--state", type=click.IntRange(1), multiple=True, default=(4,), metavar="H",
              help="width of the state; once for each part of it  [default: 4]")  # fmt: skip
@click.option("--param", multiple=True, metavar="NAME=SIZES", help="of an own cell: p.NAME has these sizes, as W=8x3")
@click.option("--part", type=click.Choice(PARTS), multiple=True, help="only this  [default: all]")
def command(cell: str, inputs: int, state: tuple[int, ...], param: tuple[str, ...], part: tuple[str, ...]) -> None:
    """Print graph, gradients, plan and kernels of a recurrent CELL.

    CELL is rnn, gru, gru-after, lstm, lstm-peepholes or lstm-layer-norm; or FILE.py:FUNCTION, an own cell
    (p, x_t, state) -> (state, y_t) with its parameters as attributes of p.

    minigrad explain lstm --part plan

    minigrad explain cells.py:leaky --input 2 --state 2 --param decay=
    """
    text = _layer(cell, inputs, state[0]) if cell in LAYERS else _own(cell, inputs, state, param)
    sections = text.split("\n\n", 3)
    for name, section in zip(PARTS, sections):
        if not part or name in part or len(sections) == 1:
            click.echo(section + "\n")
