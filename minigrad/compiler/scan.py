"""Floor 4: one recurrence loop; the cell is an argument.

``definition`` runs it step by step on the tape. ``scan`` compiles the cell where it can and then runs the whole
sequence as one operation, which the tests hold equal to the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from minigrad.compiler.fused import Call, kernel_of, run_fused
from minigrad.engine import Tensor, checkpoint
from minigrad.engine.tensor import constant
from minigrad.engine.tree import leaves, rebuild, tree_map
from minigrad.errors import DtypeError, ShapeError, describe
from minigrad.ops import concat, reshape, stack, unstack, where

Cell = Callable[[Any, Any, Any], tuple[Any, Any]]


def check_lengths(where_: str, lengths: Any, steps: int, batch: int) -> np.ndarray | None:
    """``lengths`` as an integer array (B,) with 0 <= length <= T, or None if every row has all steps."""
    if lengths is None:
        return None
    found = lengths.numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    if found.size and found.dtype.kind not in "iu":
        raise DtypeError(describe(where_, f"lengths of dtype {found.dtype}", "integers"))
    if found.shape != (batch,):
        raise ShapeError(describe(where_, f"lengths {found.shape}", f"(B,) = ({batch},)"))
    if batch and not 0 <= found.min() <= found.max() <= steps:
        got = f"lengths from {found.min()} to {found.max()}"
        raise ShapeError(describe(where_, got, f"0 <= length <= T = {steps}"))
    return None if (found == steps).all() else found.astype(np.int64)


def _choose(active: np.ndarray, new: Tensor, old: Any) -> Tensor:
    """Rows (B, ...) of ``new`` where active, else of ``old``."""
    return where(reshape(new.beside(active), (-1,) + (1,) * (new.ndim - 1)), new, old)


def _tensors(tree: Any, beside: Any) -> Any:
    """Arrays become tensors, on the device of ``beside`` if that is a tensor."""
    return tree_map(
        lambda x: x if isinstance(x, Tensor) else constant("scan", x, x if beside is None else beside), tree
    )


_DO = "a cell returns (state, y_t)"


def _pair(result: Any) -> Any:
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ShapeError(describe("scan", f"a cell that returns a {type(result).__name__}", "a pair", _DO))
    return result


def _check_step(new: Any, old: Any, y: Any, batch: int) -> None:
    """A cell keeps the shapes and dtypes of its state, and gives outputs (B, ...)."""
    got, expected = ([f"{np.shape(s)} {getattr(s, 'dtype', '')}" for s in leaves(state)] for state in (new, old))
    if got != expected:
        raise ShapeError(describe("scan", f"a cell that returns the state {', '.join(got)}", ", ".join(expected), _DO))
    if any(np.shape(part)[:1] != (batch,) for part in leaves(y)):
        shapes = ", ".join(str(np.shape(part)) for part in leaves(y))
        raise ShapeError(describe("scan", f"a cell that returns y_t {shapes}", f"(B, ...) with B = {batch}", _DO))


def scan(cell: Cell, params: Any, xs: Any, state: Any, *, lengths: Any = None, reverse: bool = False,
         compiled: bool = True, checkpoint_every: int | None = None) -> tuple[Any, Any]:  # fmt: skip
    """Run ``cell(params, x_t, state) -> (state, y_t)`` over t = 0 .. T-1.

    xs:       (T, B, ...), or a container of such tensors
    state:    a tensor (B, ...) or a container of them. One of three axes that the cell returns as it is, such as the
              keys (B, S, A) of attention, is a memory: a compiled cell can multiply it with rows, and S may be another
              in every call. Masked places of it have no influence, if they are finite (0 * NaN is NaN)
    lengths:  integers (B,), in any order: row b has ``lengths[b]`` steps. What lies behind has no influence on
              results and gradients; y is 0 there, and the final state is that of the last step of the row.
              (The cell meets zeros there, and must have finite values and derivatives for them.)
    reverse:  from the last step of each row to the first
    compiled: False runs the cell step by step, as do cells that cannot be compiled
    checkpoint_every: keep only every k-th state, and run each k steps again in the backward pass: less memory, for one
              more forward pass (Chen et al. 2016)
    Returns ``(ys, state)``: ys (T, B, ...) in the order of xs, and the final state.

    >>> import minigrad as mg
    >>> def leaky(p, x, h):
    ...     h = p * h + x
    ...     return h, h
    >>> ys, h = mg.scan(leaky, mg.tensor(0.5), mg.tensor([[[1.0]], [[1.0]]]), mg.tensor([[0.0]]))
    >>> h
    tensor([[1.5]])
    """
    call = _checked(Call(cell, params, xs, state, lengths, reverse, checkpoint_every))
    kernel = kernel_of(call) if compiled else "not asked for"
    return definition(call) if isinstance(kernel, str) else run_fused([kernel], definition, [call])[0]


def scan_together(*calls: Call) -> list[tuple[Any, Any]]:
    """``scan`` of every call; where all can be compiled, at the same time: a small batch leaves threads idle."""
    checked = [_checked(call) for call in calls]
    kernels = [kernel_of(call) for call in checked]
    compiled = [k for k in kernels if not isinstance(k, str)]
    if len(compiled) < len(calls):
        return [definition(call) if isinstance(k, str) else run_fused([k], definition, [call])[0]
                for call, k in zip(checked, kernels)]  # fmt: skip
    return run_fused(compiled, definition, checked)


def _checked(call: Call) -> Call:
    """With tensors for arrays, and with lengths that ``check_lengths`` has seen."""
    sequences, states, _ = call.groups
    if not all([isinstance(t, Tensor) for t in sequences + states]):
        beside = next((t for group in call.groups for t in group if isinstance(t, Tensor)), None)
        return _checked(replace(call, xs=_tensors(call.xs, beside), state=_tensors(call.state, beside)))
    if not sequences or any([x.ndim < 2 for x in sequences]):
        got = "no sequence" if not sequences else ", ".join(str(x.shape) for x in sequences)
        raise ShapeError(describe("scan", got, "xs of shape (T, B, ...)"))
    steps, batch = sequences[0].shape[:2]
    if steps == 0 or any([x.shape[:2] != (steps, batch) for x in sequences]):
        got = ", ".join(str(x.shape) for x in sequences)
        raise ShapeError(describe("scan", got, "one T >= 1 and one B for all of xs"))
    if any([s.ndim < 1 or s.shape[0] != batch for s in states]):
        got = ", ".join(str(s.shape) for s in states)
        expected = f"(B, ...) with B = {batch}, because xs is {sequences[0].shape}"
        raise ShapeError(describe("scan", f"state {got}", expected))
    if call.every is not None and call.every < 1:
        raise ShapeError(describe("scan", f"checkpoint_every={call.every}", "1 or more steps, or None"))
    lengths = check_lengths("scan", call.lengths, steps, batch)
    return call if lengths is call.lengths else replace(call, lengths=lengths)


def definition(call: Call) -> tuple[Any, Any]:
    """The recurrence as it is meant: one call of the cell for each step, recorded on the tape."""
    cell, params, xs, state, lengths, reverse = call.cell, call.params, call.xs, call.state, call.lengths, call.reverse
    sequences = call.groups[0]
    steps, batch = sequences[0].shape[:2]
    if call.every and call.every < steps:
        return _in_segments(call, call.every)
    parts = [unstack(x) for x in sequences]
    ys: list[Any] = [None] * steps
    order = range(steps)[::-1] if reverse else range(steps)
    for t in order:
        x_t = [part[t] for part in parts]
        if lengths is not None:
            active = t < lengths  # (B,)
            x_t = [_choose(active, x, 0) for x in x_t]  # NaN in padding must not meet a gradient
        new, y = _pair(cell(params, rebuild(xs, x_t), state))
        if t == order[0]:
            _check_step(new, state, y, batch)
        if lengths is not None:
            new = tree_map(lambda n, o: n if n is o else _choose(active, n, o), new, state)
            y = tree_map(lambda n: _choose(active, n, 0), y)
        state, ys[t] = new, y
    columns = zip(*[leaves(y) for y in ys], strict=True)
    return rebuild(ys[0], [stack(column) for column in columns]), state


def _in_segments(call: Call, every: int) -> tuple[Any, Any]:
    """``definition`` of every so many steps, each computed again in the backward pass."""
    steps, state = call.groups[0][0].shape[0], call.state
    found = []
    starts = range(0, steps, every)
    for start in starts[::-1] if call.reverse else starts:
        stop = min(start + every, steps)
        part = None if call.lengths is None else np.clip(call.lengths - start, 0, stop - start)

        def segment(p: Any, x: Any, s: Any, part: np.ndarray | None = part) -> tuple[Any, Any]:
            return definition(Call(call.cell, p, x, s, part, call.reverse, None))

        xs = tree_map(lambda x, a=start, b=stop: x[a:b], call.xs)
        ys, state = checkpoint(segment, call.params, xs, state)
        found.append(ys)
    return tree_map(lambda *parts: concat(parts, 0), *(found[::-1] if call.reverse else found)), state
