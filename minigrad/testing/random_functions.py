"""Floor 6: differentiable functions of tensors at random. Each is its own text, which a counterexample shows.

A function is drawn as lines of code on a pool of values that begins with the inputs; every line uses values above it.
A bound of each value's size is kept, so that no chain of squares grows beyond what numbers can check.
"""

from __future__ import annotations

import linecache
import math
import re
import weakref
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

import minigrad
from minigrad.engine import Tensor
from minigrad.errors import UserError, describe
from minigrad.testing.arrays import array
from minigrad.testing.drawing import shapes
from minigrad.testing.optional import needs_hypothesis

with needs_hypothesis("minigrad.testing.strategies"):
    from hypothesis import strategies as st

Shape = tuple[int, ...]
LARGEST = 10.0  # bound of a value
MOST_ELEMENTS = 64
INPUT = 3.0  # bound of an input
NAMES = "abcdefgh"  # of inputs
_serial = count().__next__

# text, and the bound of its result for the bound of its operand
UNARY: dict[str, tuple[str, Callable[[float], float]]] = {
    "tanh": ("mg.tanh({0})", lambda b: 1.0), "sigmoid": ("mg.sigmoid({0})", lambda b: 1.0),
    "sin": ("mg.sin({0})", lambda b: 1.0), "cos": ("mg.cos({0})", lambda b: 1.0),
    "neg": ("-{0}", lambda b: b), "half": ("0.5 * {0}", lambda b: b / 2),
    "softplus": ("mg.softplus({0})", lambda b: b + 1), "gelu": ("mg.gelu({0})", lambda b: b),
    "square": ("{0} * {0}", lambda b: b * b), "exp": ("mg.exp({0})", lambda b: math.exp(min(b, 20.0))),
    "log": ("mg.log(1.0 + {0} * {0})", lambda b: math.log(1 + b * b)),
    "sqrt": ("mg.sqrt(1.0 + {0} * {0})", lambda b: 1 + b),
    "reciprocal": ("1.0 / (1.0 + {0} * {0})", lambda b: 1.0),
}  # fmt: skip
KINKED = {
    "relu": ("mg.relu({0})", lambda b: b), "abs": ("mg.abs({0})", lambda b: b),
    "clip": ("mg.clip({0}, -0.75, 1.3)", lambda b: 1.3),
}  # fmt: skip
BINARY: dict[str, tuple[str, Callable[[float, float], float]]] = {
    "add": ("{0} + {1}", lambda a, b: a + b), "sub": ("{0} - {1}", lambda a, b: a + b),
    "mul": ("{0} * {1}", lambda a, b: a * b), "div": ("{0} / (1.5 + {1} * {1})", lambda a, b: a),
}  # fmt: skip
REDUCTIONS: dict[str, Callable[[float, int], float]] = {
    "sum": lambda b, n: b * n, "mean": lambda b, n: b, "logsumexp": lambda b, n: b + math.log(n),
    "var": lambda b, n: b * b,
}  # fmt: skip
KINDS = ("unary", "binary", "reduce", "along", "shape", "matmul", "join", "take", "unstack")


class Value(NamedTuple):
    name: str
    shape: Shape
    bound: float


class Line(NamedTuple):
    names: tuple[str, ...]
    text: str
    parts: bool = False  # names one value that stands in a tuple alone


def compiled(code: str, name: str, scope: dict[str, Any] | None = None) -> Callable:
    """The function ``name`` that the text defines; tracebacks show its lines as long as it lives. ``mg`` and ``np``
    are there."""
    file = f"<drawn {name} {_serial()}>"
    names: dict[str, Any] = {"__name__": "drawn", "mg": minigrad, "np": np, **(scope or {})}
    exec(compile(code, file, "exec"), names)
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    weakref.finalize(names[name], linecache.cache.pop, file, None)
    return names[name]


class Function:
    """A differentiable function of tensors, float32 or float64, that prints as its code.

    shapes: of its inputs
    code:   Python text of a function ``f``; ``scope`` holds the names in it beside ``mg`` and ``np``

    >>> f = Function(shapes=((3,),), code="def f(a):\\n    return mg.tanh(a)")
    >>> f(*f.tensors())
    tensor([-0.9217,  0.3799,  0.9837], dtype=float64, by=tanh)
    """

    def __init__(self, shapes: Sequence[Shape], code: str, scope: dict[str, Any] | None = None):
        self.shapes, self.code, self.scope = tuple(shapes), code.lstrip("\n"), scope or {}
        self.f = compiled(self.code, "f", scope)

    def __call__(self, *xs: Tensor) -> Any:
        return self.f(*xs)

    def arrays(self, values: int | str = "even", dtype: str = "float64") -> list[np.ndarray]:
        """Inputs in [-3, 3]: evenly spaced, all "equal", or of a seed."""
        seeds = [values if isinstance(values, str) else values + i for i in range(len(self.shapes))]
        return [array(shape, dtype, values=seed) for shape, seed in zip(self.shapes, seeds)]

    def tensors(self, values: int | str = "even", dtype: str = "float64") -> list[Tensor]:
        """The same as tensors that require a gradient."""
        return [Tensor(x, True) for x in self.arrays(values, dtype)]

    def __repr__(self) -> str:
        own = f", scope={{{', '.join(f'{name!r}: {name}' for name in self.scope)}}}" if self.scope else ""
        return f"Function(shapes={self.shapes}, code='''\n{self.code}'''{own})"


class _Lines:
    """Lines of code so far, and the values that they made."""

    def __init__(self, values: list[Value]):
        self.values, self.lines = values, list[Line]()

    def add(self, text: str, shape: Shape, bound: float) -> None:
        name = f"v{len(self.values)}"
        self.lines.append(Line((name,), text))
        self.values.append(Value(name, shape, bound))

    def add_parts(self, text: str, count: int, shape: Shape, bound: float) -> None:
        names = tuple(f"v{len(self.values) + i}" for i in range(count))
        self.lines.append(Line(names, text, count == 1))
        self.values += [Value(name, shape, bound) for name in names]

    def needed(self, results: Sequence[str]) -> list[Line]:
        """The lines that the results depend on."""
        wanted, kept = set(results), []
        for line in reversed(self.lines):
            if wanted & set(line.names):
                kept.append(line)
                wanted |= set(re.findall(r"\b[a-z]\w*\b", line.text))
        return kept[::-1]

    def text(self, head: str, results: Sequence[str]) -> str:
        """The code of a function with these results; its values are numbered from v0."""
        body = [f"{', '.join(line.names)}{',' * line.parts} = {line.text}" for line in self.needed(results)]
        code = "\n".join([f"def {head}:", *[f"    {line}" for line in [*body, f"return {', '.join(results)}"]]]) + "\n"
        order = {name: f"v{i}" for i, name in enumerate(dict.fromkeys(re.findall(r"\bv\d+\b", code)))}
        return re.sub(r"\bv\d+\b", lambda found: order[found[0]], code)


def more() -> st.SearchStrategy[bool]:
    """Whether to go on. One draw before each step lets a counterexample lose steps one by one."""
    return st.sampled_from((False, True, True, True))


def _without(shape: Shape, axis: int, keepdims: bool) -> Shape:
    return (*shape[:axis], *((1,) if keepdims else ()), *shape[axis + 1 :])


def _step(draw: Any, lines: _Lines, unary: dict[str, Any], own: Sequence[str]) -> None:
    """One more line; what does not fit its operands, or would grow too large, becomes a tanh."""
    kind = draw(st.sampled_from((*KINDS, *["own"] * 3 * bool(own))))
    x = lines.values[draw(st.integers(0, len(lines.values) - 1))]
    size = math.prod(x.shape)
    text, shape, bound = "", x.shape, math.inf
    if kind == "unary":
        name = draw(st.sampled_from(sorted(unary)))
        text, bound_of = unary[name]
        text, bound = text.format(x.name), bound_of(x.bound)
    elif kind == "own":
        text, bound = f"{draw(st.sampled_from(own))}({x.name})", LARGEST
    elif kind in ("binary", "join"):
        y = lines.values[draw(st.integers(0, len(lines.values) - 1))]
        if kind == "join" and y.shape == x.shape:
            axis = draw(st.integers(0, len(x.shape)))
            text, bound = f"mg.stack([{x.name}, {y.name}], axis={axis})", max(x.bound, y.bound)
            shape = (*x.shape[:axis], 2, *x.shape[axis:])
        else:
            template, both = BINARY[draw(st.sampled_from(sorted(BINARY)))]
            try:
                shape, other = np.broadcast_shapes(x.shape, y.shape), y.name
            except ValueError:
                other = f"mg.mean({y.name})"
            text, bound = template.format(x.name, other), both(x.bound, y.bound)
    elif kind == "reduce":
        name, keep = draw(st.sampled_from(sorted(REDUCTIONS))), draw(st.booleans())
        axis = draw(st.integers(0, len(x.shape) - 1)) if x.shape else None
        n = x.shape[axis] if axis is not None else 1
        text = f"mg.{name}({x.name}, axis={axis}, keepdims={keep})"
        shape = _without(x.shape, axis, keep) if axis is not None else ()
        bound = REDUCTIONS[name](x.bound, n)
    elif kind == "along" and x.shape:
        name, axis = draw(st.sampled_from(("softmax", "cumsum", "flip"))), draw(st.integers(0, len(x.shape) - 1))
        text = f"mg.{name}({x.name}, axis={axis})"
        bound = {"softmax": 1.0, "cumsum": x.bound * x.shape[axis], "flip": x.bound}[name]
    elif kind == "shape":
        name = draw(st.sampled_from(("transpose", "reshape", "expand")))
        text, shape = {
            "transpose": (f"mg.transpose({x.name})", x.shape[::-1]),
            "reshape": (f"mg.reshape({x.name}, ({size},))", (size,)),
            "expand": (f"mg.expand_dims({x.name}, 0)", (1, *x.shape)),
        }[name]
        bound = x.bound
    elif kind == "matmul" and x.shape:
        fits = [v for v in lines.values if len(v.shape) == 2 and v.shape[-1] == x.shape[-1]]
        y = draw(st.sampled_from(fits)) if fits else x
        turned = y.name if len(y.shape) == 1 else f"mg.matrix_transpose({y.name})"
        text, bound = f"{x.name} @ {turned}", x.bound * y.bound * x.shape[-1]
        other = np.zeros(y.shape)
        shape = np.matmul(np.zeros(x.shape), other.swapaxes(-1, -2) if other.ndim > 1 else other).shape
    elif kind == "take" and x.shape:
        at = draw(st.lists(st.integers(-x.shape[0], x.shape[0] - 1), min_size=1, max_size=3))
        text, shape = {
            "rows": (f"mg.embedding({x.name}, {[i % x.shape[0] for i in at]})", (len(at), *x.shape[1:])),
            "one": (f"{x.name}[{at[0]}]", x.shape[1:]),
            "turned": (f"{x.name}[::-1]", x.shape),
        }[draw(st.sampled_from(("one", "turned", "rows")))]
        bound = x.bound
    elif kind == "unstack" and x.shape and x.shape[0] <= 3:
        lines.add_parts(f"mg.unstack({x.name})", x.shape[0], x.shape[1:], x.bound)
        return
    if bound > LARGEST or math.prod(shape) > MOST_ELEMENTS or len(shape) > 4:
        text, shape, bound = f"mg.tanh({x.name})", x.shape, 1.0
    lines.add(text, shape, bound)


@st.composite
def functions(
    draw: Any,
    inputs: Sequence[Shape] | None = None,
    max_inputs: int = 2,
    max_steps: int = 6,
    smooth: bool = True,
    own: dict[str, Callable[[Tensor], Tensor]] | None = None,
) -> Function:
    """Differentiable functions of tensors: a few random operations on inputs of given or random shapes.

    ``smooth=False`` allows kinks. ``own`` names further functions of one tensor that keep its shape; they are used
    like ``tanh`` among the others. UserError, when drawn, for inputs without elements or more than eight of them.

    >>> from hypothesis import find
    >>> find(functions(), lambda f: "tanh" in f.code)
    Function(shapes=((),), code='''
    def f(a):
        v0 = mg.tanh(a)
        return v0
    ''')
    """
    given = inputs
    count = max_inputs if given is None else len(given)
    if not 1 <= count <= len(NAMES) or not all(math.prod(shape) for shape in given or ()):
        got = f"max_inputs={max_inputs}" if given is None else f"inputs={list(given)}"
        raise UserError(describe("functions", got, f"1 to {len(NAMES)} inputs, each of at least one element"))
    if given is None:
        form = shapes((1, 2, 3), 0, 3)
        given = draw(st.lists(form, min_size=1, max_size=max_inputs))
    names = NAMES[: len(given)]
    lines = _Lines([Value(name, shape, INPUT) for name, shape in zip(names, given)])
    unary = {**UNARY, **({} if smooth else KINKED)}
    for i in range(max_steps):
        if i and not draw(more()):
            break
        _step(draw, lines, unary, sorted(own or {}))
    results = [lines.values[-1].name]
    if draw(st.booleans()):
        results.append(lines.values[draw(st.integers(0, len(lines.values) - 1))].name)
    return Function(given, lines.text(f"f({', '.join(names)})", results), own)
