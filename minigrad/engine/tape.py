"""Floor 3: what an operation is, and how its use is written down.

``apply`` runs an operation on arrays and, if a gradient may be asked for, leaves a ``Node`` behind: which
operation, on what, with what result. The nodes that a result reaches are the tape; ``backward.py`` walks it.
Nothing here names an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from minigrad.engine import anomaly
from minigrad.engine.tensor import Tensor
from minigrad.errors import DeviceError, GraphError, describe
from minigrad.kernels import BACKENDS


@dataclass(frozen=True, eq=False)
class Operation:
    """A function of arrays with its gradient rule.

    name:     what errors and pictures call it
    forward:  ``forward(backend, *arrays, **attrs)``: an array, or a tuple of arrays
    vjp:      one rule for each input, or a single rule that returns the cotangents of all inputs.
              A rule ``(g, y, *xs, **attrs)`` takes the cotangent g of the result y and returns the cotangent of
              its input, written in other operations, so it can be differentiated again. It need not undo
              broadcasting: the engine does. With several results, g and y are tuples and entries of g may be
              None. ``None`` in place of a rule: that input has no gradient. A rule may also have a method
              ``arrays(g, y, xs)`` which computes the same from arrays, or gives None; passes that are not
              recorded ask it first.
    """

    name: str
    forward: Callable[..., Any]
    vjp: tuple[Callable[..., Tensor] | None, ...] | Callable[..., Sequence[Tensor | None]] | None = None


next_serial = count().__next__
_NONE: dict[str, Any] = {}


class Node:
    """One use of an operation. ``inputs`` and ``out`` are dropped when the graph is freed; ``where``, the line
    that called it, is set in anomaly mode only."""

    __slots__ = ("op", "inputs", "arrays", "attrs", "out", "serial", "where", "__weakref__")
    where: str

    def __init__(self, op: Operation, inputs: tuple[Tensor, ...], arrays: list[Any], attrs: dict[str, Any], out: Any):
        self.op = op
        self.inputs: tuple[Tensor, ...] | None = inputs
        self.arrays = arrays  # what the inputs held: an optimiser may give a leaf new data
        self.attrs = attrs
        self.out = out  # arrays, not tensors: a tensor would point back here and keep the buffer alive
        self.serial = next_serial()

    def result(self) -> Any:
        """The result as tensors of this node, so that a rule's use of it is differentiated too."""
        if isinstance(self.out, tuple):
            return tuple(Tensor(a, True, self, i) for i, a in enumerate(self.out))
        return Tensor(self.out, True, self)

    def __repr__(self) -> str:
        return f"<{self.op.name} #{self.serial}>"


Observer = Callable[[Operation, tuple[Tensor, ...], dict[str, Any], Any], None]


class Mode(NamedTuple):
    recording: bool = True
    anomaly: bool = False
    observer: Observer | None = None


_MODE: ContextVar[Mode] = ContextVar("minigrad_mode", default=Mode())


@contextmanager
def _mode(**changes: Any) -> Iterator[None]:
    token = _MODE.set(_MODE.get()._replace(**changes))
    try:
        yield
    finally:
        _MODE.reset(token)


def no_grad() -> Any:
    """Inside ``with no_grad():`` (or a function decorated with it) nothing is recorded.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0], requires_grad=True)
    >>> with mg.no_grad():
    ...     (x * 2.0).requires_grad
    False
    """
    return _mode(recording=False)


def enable_grad() -> Any:
    """The opposite of ``no_grad``, for use inside it."""
    return _mode(recording=True)


def recording(value: bool) -> Any:
    """``no_grad`` or ``enable_grad``, by a value."""
    return _mode(recording=value)


def detect_anomaly() -> Any:
    """Inside, every operation's result and every cotangent is checked for NaN and Inf.

    Raises AnomalyError with the operation, its shapes and the line that called it.
    """
    return _mode(anomaly=True)


def observe(observer: Observer) -> Any:
    """Inside, ``observer(op, inputs, attrs, result)`` is called after every operation, recorded or not.

    On abstract arrays (``kernels/abstract.py``) this traces a function without computing it.
    """
    return _mode(observer=observer)


def is_recording() -> bool:
    return _MODE.get().recording


def checks_anomalies() -> bool:
    return _MODE.get().anomaly


def apply(op: Operation, inputs: tuple[Tensor, ...], attrs: dict[str, Any] | None = None) -> Any:
    """The result of an operation as a tensor (or a tuple of them), recorded if a gradient may be asked for."""
    attrs = attrs or _NONE
    arrays = [x.data for x in inputs]
    backend = BACKENDS[type(arrays[0])]
    try:
        out = op.forward(backend, *arrays, **attrs) if attrs else op.forward(backend, *arrays)
    except (TypeError, AttributeError):
        out = _mixed(op, inputs, attrs)
    if type(out) is not type(arrays[0]):
        out = tuple([_array(op, a) for a in out]) if type(out) is tuple else _array(op, out)
    recording, check, observer = _MODE.get()
    node = None
    if recording and op.vjp is not None:
        for x in inputs:
            if x.requires_grad:
                node = Node(op, inputs, arrays, attrs, out)
                break
    if check:
        where = anomaly.caller()
        if node is not None:
            node.where = where
        anomaly.check_forward(op.name, inputs, out, where)
    if type(out) is tuple:
        result: Any = tuple([Tensor(a, node is not None, node, i) for i, a in enumerate(out)])
    else:
        result = Tensor(out, node is not None, node)
    if observer is not None:
        observer(op, inputs, attrs, result)
    return result


def _array(op: Operation, out: Any) -> Any:
    """A result of another kind than the operands: NumPy gives a number where an array has no axis."""
    if type(out) in BACKENDS:
        return out
    if isinstance(out, np.generic):
        return np.asarray(out)
    raise GraphError(describe(op.name, f"a forward that returns {type(out).__name__}", "an array or a tuple of arrays"))


def _mixed(op: Operation, inputs: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    """The result where operands are of several kinds: an error, unless one of them adopts the others."""
    kinds = {type(x.data) for x in inputs}
    if len(kinds) == 1:
        raise  # the error that led here
    for backend in map(BACKENDS.__getitem__, kinds):
        if hasattr(backend, "adopt"):
            return op.forward(backend, *[backend.adopt(x.data) for x in inputs], **attrs)
    devices = " and ".join(sorted({x.device for x in inputs}))
    raise DeviceError(describe(op.name, f"tensors on {devices}", "one device", "move one with .to()"))
