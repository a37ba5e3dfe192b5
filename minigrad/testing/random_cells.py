"""Floor 6: recurrent cells at random, of operations that ``scan`` compiles. Each is its own text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import ops as mg
from minigrad.engine import Tensor
from minigrad.testing.drawing import SEEDS
from minigrad.testing.optional import needs_hypothesis
from minigrad.testing.random_functions import compiled, more

with needs_hypothesis("minigrad.testing.strategies"):
    from hypothesis import strategies as st

Shape = tuple[int, ...]
UNARY = {
    "tanh": "mg.tanh({0})", "sigmoid": "mg.sigmoid({0})", "softplus": "mg.softplus({0})", "gelu": "mg.gelu({0})",
    "neg": "-{0}", "half": "{0} * 0.5", "bounded exp": "mg.exp(mg.tanh({0}))", "softmax": "mg.softmax({0}, -1)",
    "normalise": "normalise({0})", "share of sum": "{0} / (1.0 + ({0} * {0}).sum(-1, keepdims=True))",
    "log": "mg.log(1.0 + {0} * {0})",
}  # fmt: skip
BINARY = {"add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "max": "mg.maximum({0}, {1})"}
WIDTHS = (3, 5)


def normalise(v: Tensor) -> Tensor:
    """Layer norm without gain."""
    centred = v - mg.mean(v, -1, keepdims=True)
    return centred / mg.sqrt(mg.mean(centred * centred, -1, keepdims=True) + 1e-5)


class Cell:
    """A recurrent cell ``(p, x_t (B, I), h (B, H)) -> (h, y_t)`` that prints as its code.

    function:       what ``mg.scan`` takes
    inputs, hidden: I and H
    shapes:         of the parameters p, a list of tensors
    """

    def __init__(self, inputs: int, hidden: int, shapes: Sequence[Shape], code: str, seed: int = 0):
        self.inputs, self.hidden, self.shapes, self.seed = inputs, hidden, tuple(shapes), seed
        self.code = code.lstrip("\n")
        self.function = compiled(self.code, "cell", {"normalise": normalise})

    def __call__(self, p: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(p, x, h)

    def draw(self, T: int, B: int, dtype: str = "float64") -> tuple[list[Tensor], Tensor, Tensor]:
        """Parameters, x (T, B, I) and h (B, H), all of them requiring a gradient."""
        rng = np.random.default_rng(self.seed)

        def tensor(*shape: int) -> Tensor:
            return Tensor(rng.standard_normal(shape).astype(dtype), True)

        scales = [shape[-1] ** -0.5 if len(shape) == 2 else 1.0 for shape in self.shapes]
        p = [Tensor((rng.standard_normal(s) * scale).astype(dtype), True) for s, scale in zip(self.shapes, scales)]
        return p, tensor(T, B, self.inputs), tensor(B, self.hidden)

    def __repr__(self) -> str:
        return (f"Cell(inputs={self.inputs}, hidden={self.hidden}, shapes={self.shapes}, seed={self.seed}, "
                f"code='''\n{self.code}''')")  # fmt: skip


@st.composite
def cells(draw: Any, inputs: int = 4, hidden: int = 6, max_steps: int = 6) -> Cell:
    """Recurrent cells of 1 to ``max_steps`` random operations and a product that closes the loop.

    >>> from hypothesis import find
    >>> import minigrad as mg
    >>> cell = find(cells(), lambda cell: "mg.tanh(x)" in cell.code)
    >>> mg.scan(cell.function, *cell.draw(T=5, B=2))[1].shape
    (2, 6)
    """
    shapes: list[Shape] = []
    pool, widths, lines = ["x", "h"], [inputs, hidden], []

    def weight(*shape: int) -> str:
        shapes.append(shape)
        return f"p[{len(shapes) - 1}]"

    for n in range(max_steps):
        if n and not draw(more()):
            break
        kind = draw(st.sampled_from(("binary", "unary", "product", "vector", "cut", "join")))
        i, j = (draw(st.integers(0, len(pool) - 1)) for _ in range(2))
        (a, width), b = (pool[i], widths[i]), pool[j]
        if kind == "binary" and width == widths[j]:
            text = BINARY[draw(st.sampled_from(sorted(BINARY)))].format(a, b)
        elif kind in ("binary", "join"):
            text, width = f"mg.concat([{a}, {b}], -1)", width + widths[j]
        elif kind == "product":
            new = draw(st.sampled_from(WIDTHS))
            text, width = f"{a} @ {weight(new, width)}.T", new
        elif kind == "vector":
            text = f"{a} * {weight(width)} + 0.1"
        elif kind == "cut" and width > 1:
            text, width = f"{a}[:, : {width // 2}]", width // 2
        else:
            text = UNARY[draw(st.sampled_from(sorted(UNARY)))].format(a)
        lines.append(f"    v{n} = {text}\n")
        pool.append(f"v{n}")
        widths.append(width)
    end = f"    return mg.tanh({pool[-1]} @ {weight(hidden, widths[-1])}.T), {draw(st.sampled_from(pool))}\n"
    return Cell(inputs, hidden, shapes, f"def cell(p, x, h):\n{''.join(lines)}{end}", draw(SEEDS))
