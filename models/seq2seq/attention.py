"""Floor 7: attention, and the cell of a decoder that attends, as their equations.

With h (B, H) the decoder's top state and m_s (B, E) what the encoder says of source position s, the scores are

dot:       e_s = h m_s;   general: e_s = h W m_s      (Luong, Pham and Manning 2015)
location:  e = L h, the same whatever the source is    (the same)
additive:  e_s = v tanh(W m_s + Q h)                   (Bahdanau, Cho and Bengio 2015)

and a = softmax(e + bias) with a bias of -1e9 behind the end of a source; the context is sum_s a_s m_s, and the readout
r = tanh(C [h; context]) goes to the output layer and, with input feeding, into the next step beside its symbol. With
coverage k = sum of the a of all steps before, e_s also has u k_s, in additive attention inside the tanh (See, Liu and
Manning 2017). What depends on the source alone, W m_s, is computed once: the ``keys``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from minigrad.engine import Tensor
from minigrad.ops import concat, einsum, minimum, reshape, softmax, sum, tanh

NEVER = -1e9


class Memory(NamedTuple):
    """The source, as a decoder sees it: keys (B, S, A), values (B, S, E), bias (B, S)."""

    keys: Tensor
    values: Tensor
    bias: Tensor


def scores(kind: str, p: Any, h: Tensor, keys: Tensor, covered: Tensor | None) -> Tensor:
    """e (B, S) of a state h (B, H); ``covered`` (B, S)."""
    if kind == "additive":
        q = h @ p.Q.T
        inside = keys + reshape(q, (-1, 1, q.shape[1]))  # (B, S, A)
        if covered is not None:
            inside = inside + reshape(covered, (*covered.shape, 1)) * p.u
        return sum(tanh(inside) * p.v, -1)
    if kind == "location":
        e = h @ p.L.T
    else:
        e = einsum("bh,bsh->bs", h, keys)
    return e if covered is None else e + p.u * covered


@cache  # the compiler knows a cell by its identity
def decoder_cell(step: Callable, kind: str, feeding: bool) -> Callable:
    """The cell (p, (x, masks), state) -> (state, y) of a decoder whose layers are ``step``.

    p:      a namespace with the parameters of the ``layers`` from below, C, and of the attention L, Q, u or v
    masks:  of the dropout between the layers, or none
    state:  those of the layers; the readout (B, R) if ``feeding``; the coverage (B, S) if p has u; a Memory
    y:      the readout, the attention a (B, S), and min(a, coverage) (B, S) if there is one

    With ``kind`` "none" there is neither memory nor readout: y is the top state (B, H).
    """
    if kind == "none":

        def plain(p: Any, xs: Any, state: Any) -> tuple[Any, Any]:
            new, h = _layers(step, p.layers, *xs, state)
            return new, h

        return plain

    def attending(p: Any, xs: Any, state: Any) -> tuple[Any, Any]:
        (x, masks), (states, fed, covered, memory) = xs, state
        new, h = _layers(step, p.layers, concat([x, fed], -1) if feeding else x, masks, states)
        a = softmax(scores(kind, p, h, memory.keys, covered) + memory.bias)  # (B, S)
        context = einsum("bs,bse->be", a, memory.values)
        readout = tanh(concat([h, context], -1) @ p.C.T)  # (B, R)
        y = (readout, a) if covered is None else (readout, a, minimum(a, covered))
        later = None if covered is None else covered + a
        return (new, readout if feeding else None, later, memory), y

    return attending


def _layers(step: Callable, layers: Any, x: Tensor, masks: Any, states: Any) -> tuple[Any, Tensor]:
    """One step of a stack: its states, and what the top gives (B, H)."""
    new = []
    for k, (p, state) in enumerate(zip(layers, states)):
        state, h = step(p, x, state)
        new.append(state)
        x = h * masks[k] if k < len(masks) else h
    return tuple(new), h
