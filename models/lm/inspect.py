"""Floor 7: what a network learned, as figures: gradients through time, gates over a text, neighbours, loss curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from minigrad import ops
from minigrad.compiler import scan
from minigrad.engine import Tensor, vjp
from minigrad.engine.tree import leaves, rebuild
from minigrad.errors import UserError, describe
from minigrad.models.lm.adapt import differentiated, twin
from minigrad.models.lm.model import LanguageModel
from minigrad.models.progress import read_records
from minigrad.nn import cells
from minigrad.nn.layers import normalised
from minigrad.nn.recurrent import Recurrent
from minigrad.ops import sigmoid, split, tanh
from minigrad.optim import clip_grad_norm_, clip_grad_value_

STATES = ("h", "c")  # what the states of a cell are called


# ------------------------------------------------------------------------------------------------ gradients in time


@cache
def probed(cell: Callable) -> Callable:
    """``cell`` with s_t + e_t for its new state s_t, inputs (x, e): the derivative by e_t = 0 is that by s_t.

    y_t is the first state, as of every cell in ``nn.cells``.
    """

    def with_probe(p: Any, inputs: Any, state: Any) -> Any:
        x, e = inputs
        new, _ = cell(p, x, state)
        new = rebuild(new, [s + d for s, d in zip(leaves(new), e)])
        return new, leaves(new)[0]

    return with_probe


def state_gradients(
    layers: Sequence[Recurrent], x: Any, objective: Callable[[Tensor], Tensor], state: Any = None
) -> list:
    """dL/ds_t of L = objective(output), through the compiled scan; found[k][j] (T, B, H) is of layer k and state j.

    layers: modules one upon the other, each of one or more layers; x (T, B, I), output (T, B, H) of the last. The
    states of an LSTM are h and c, each derivative with the other held. Hochreiter (1991) and Bengio, Simard and
    Frasconi (1994) on how it fades; Pascanu, Mikolov and Bengio (2013) on how it grows.

    >>> import minigrad as mg
    >>> layer, x = mg.nn.LSTM(2, 3, generator=0), mg.tensor(np.ones((4, 1, 2), np.float32))
    >>> (h, c), = state_gradients([layer], x, lambda ys: ys[-1].sum())
    >>> h.shape, h[-1].tolist(), c[-1].tolist()
    ((4, 1, 3), [[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]])
    """
    steps = x.shape[0]
    scans = list(_scans(layers, state, x))
    zeros = [[x.beside(np.zeros((steps, *s.shape), x.dtype)) for s in leaves(start)] for *_, start in scans]

    def loss(probes: Any) -> Tensor:
        ys = x
        for (layer, suffix, start), e in zip(scans, probes):
            cell, p, inputs, start = layer.equipped(layer.cell_parameters(suffix), ys, start)
            ys, _ = scan(probed(cell), p, (inputs, tuple(e)), start)
        return objective(ys)

    value, pull = vjp(loss, zeros)
    (found,) = pull(np.ones(value.shape, value.dtype))
    return [[g.numpy() for g in row] for row in found]


def _scans(layers: Sequence[Recurrent], state: Any, x: Tensor) -> Iterator[tuple[Recurrent, str, Any]]:
    """Module, suffix of the parameters and first state of every layer for x (T, B, I), from below; a state of None is
    zeros."""
    given = iter([s.numpy() for s in leaves(state)])
    for layer in layers:
        assert not layer.bidirectional
        sizes = [(layer.num_layers, x.shape[1], n) for n in layer.widths()]
        parts = [np.zeros(size, x.dtype) if state is None else next(given) for size in sizes]
        for k in range(layer.num_layers):
            row = tuple(x.beside(s[k]) for s in parts)
            yield layer, f"l{k}", row if layer.states == 2 else row[0]


def gradient_norms(model: LanguageModel, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The mean over B of ||dL_T/ds_t||, (T,), for each state of each layer: "h", "c", or "h1", "h2" of several layers.

    ids (T + 1, B); L_T = -log p(ids[T] | ids[0] .. ids[T-1]), the loss of the last symbol alone.
    """
    model, batch = twin(model), ids.shape[1]
    x, start = model.embedding(ids[:-1]).detach(), model.initial_state(batch)

    def objective(ys: Tensor) -> Tensor:
        return ops.cross_entropy(model.logits(ys[-1]), ids[-1]) * float(batch)  # the sum over B

    found = state_gradients(model._stacks(), x, objective, start)
    names = [[s + (str(k + 1) if len(found) > 1 else "") for s in STATES] for k in range(len(found))]
    return {name: np.sqrt(np.square(g.astype(np.float64)).sum(-1)).mean(-1)
            for layer, row in zip(found, names) for g, name in zip(layer, row)}  # fmt: skip


class Fading(NamedTuple):
    """What a step back in time does to the norm of a gradient: factors, and the steps until 1 % of it is left."""

    median: float
    least: float
    most: float
    steps: int | None


def fading(norms: np.ndarray) -> Fading:
    """Factors n_{t-1} / n_t of norms (T,); ``steps`` is None where more than 1 % arrives at the first step.

    >>> fading(np.array([0.001, 0.01, 0.1, 1.0])).steps
    2
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = norms[:-1] / norms[1:]
    factors = factors[np.isfinite(factors)]
    if not factors.size:
        return Fading(math.nan, math.nan, math.nan, None)
    end = np.flatnonzero(norms)[-1]  # the last h_T is the output itself, and c_T has no part in the loss any more
    faded = norms[end::-1] <= 0.01 * norms[end] * (1 + 1e-9)
    steps = int(faded.argmax()) + len(norms) - 1 - int(end) if faded.any() else None
    return Fading(float(np.median(factors)), float(factors.min()), float(factors.max()), steps)


class Clipped(NamedTuple):
    """A way to clip, its bound, the gradient's norm before and after, and the cosine between the two, NaN where there
    is no direction: a norm of 0, Inf or NaN."""

    by: str
    bound: float
    before: float
    after: float
    cosine: float


def clipping(gradients: Sequence[Tensor], max_norm: float, max_value: float) -> list[Clipped]:
    """What clipping by norm and by value (``optim.clip_grad_norm_``, ``clip_grad_value_``) does to the gradients of a
    model: by norm the direction stays, by value it turns. A bound of NaN clips nothing.

    >>> import minigrad as mg
    >>> [(c.by, round(c.after, 3), round(c.cosine, 3)) for c in clipping([mg.tensor([3.0, 4.0])], 1.0, 1.0)]
    [('norm', 1.0, 1.0), ('value', 1.414, 0.99)]
    """
    raw = _flat(gradients)
    before = float(np.linalg.norm(raw))
    found = []
    for by, clip, bound in (("norm", clip_grad_norm_, max_norm), ("value", clip_grad_value_, max_value)):
        standing: list[Any] = [SimpleNamespace(grad=g) for g in gradients]
        if not math.isnan(bound):
            clip(standing, bound)
        new = _flat([s.grad for s in standing])
        after = float(np.linalg.norm(new))
        cosine = float(raw @ new) / (before * after) if 0 < before * after < math.inf else math.nan
        found.append(Clipped(by, bound, before, after, cosine))
    return found


def _flat(gradients: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([g.numpy().astype(np.float64).ravel() for g in gradients])


def clipping_to(gradients: Sequence[Tensor], share: float) -> list[Clipped]:
    """``clipping`` with the bounds that leave this share of the norm; NaN where the norm is 0, Inf or NaN."""
    raw = _flat(gradients)
    norm = float(np.linalg.norm(raw))
    if not 0 < norm < math.inf:
        return clipping(gradients, math.nan, math.nan)
    low, high = 0.0, float(np.abs(raw).max())
    for _ in range(50):  # the norm rises with the bound of values
        middle = (low + high) / 2
        small = np.linalg.norm(np.clip(raw, -middle, middle)) < share * norm
        low, high = (middle, high) if small else (low, middle)
    return clipping(gradients, share * norm, high)


def parameter_gradients(model: LanguageModel, ids: np.ndarray) -> list[Tensor]:
    """Of the mean of -log p over ids (T + 1, B), without dropout, by every parameter that has a part in it."""
    model = twin(model)
    return [p.grad for _, p in differentiated(model, ids[:-1], ids[1:], model.initial_state(ids.shape[1]))]


# ------------------------------------------------------------------------------------------------ gates over a text


def lstm_gates(p: Any, x: Any, state: Any) -> Any:
    """``cells.lstm`` and ``cells.lstm_variant`` (but for masks and the projection), every part an output."""
    h, c = state
    a, r = x @ p.W.T, h @ p.U.T
    if hasattr(p, "gain_x"):
        a, r = normalised(a, p.gain_x), normalised(r, p.gain_h)
    coupled = p.W.shape[0] == 3 * c.shape[-1]
    *i, f, g, o = split(a + r + p.b, 3 if coupled else 4, axis=-1)  # (B, H) each
    if hasattr(p, "cf"):
        i, f = [gate + p.ci * c for gate in i], f + p.cf * c
    f, g = sigmoid(f), tanh(g)
    i = 1.0 - f if coupled else sigmoid(i[0])
    c = f * c + i * g
    o = sigmoid(o + p.co * c if hasattr(p, "cf") else o)
    h = o * tanh(normalised(c, p.gain_c) + p.bias_c if hasattr(p, "gain_c") else c)
    return (h, c), {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


def gru_before_gates(p: Any, x: Any, h: Any) -> Any:
    """``cells.gru_before``, every part an output."""
    x_r, x_u, x_n = split(x @ p.W.T + p.b, 3, axis=-1)  # (B, H) each
    h_r, h_u = split(h @ p.U.T, 2, axis=-1)
    r, u = sigmoid(x_r + h_r), sigmoid(x_u + h_u)
    n = tanh(x_n + (r * h) @ p.U_n.T)
    h = u * n + (1.0 - u) * h
    return h, {"r": r, "u": u, "n": n, "h": h}


def gru_after_gates(p: Any, x: Any, h: Any) -> Any:
    """``cells.gru_after``, every part an output."""
    x_r, x_u, x_n = split(x @ p.W.T + p.b, 3, axis=-1)  # (B, H) each
    h_r, h_u, h_n = split(h @ p.U.T, 3, axis=-1)
    r, u = sigmoid(x_r + h_r), sigmoid(x_u + h_u)
    n = tanh(x_n + r * (h_n + p.c))
    h = u * n + (1.0 - u) * h
    return h, {"r": r, "u": u, "n": n, "h": h}


def gru_simple_gates(p: Any, x: Any, h: Any) -> Any:
    """``cells.gru_simple``, every part an output."""
    a_u, a_n = split(x @ p.W.T + h @ p.U.T + p.b, 2, axis=-1)  # (B, H) each
    u, n = sigmoid(a_u), tanh(a_n)
    h = u * n + (1.0 - u) * h
    return h, {"u": u, "n": n, "h": h}


@cache
def _without_gates(cell: Callable) -> Callable:
    def named(p: Any, x: Any, state: Any) -> Any:
        state, _ = cell(p, x, state)
        return state, dict(zip(STATES, leaves(state)))

    return named


OPENED = {
    cells.lstm: lstm_gates,
    cells.lstm_variant: lstm_gates,
    cells.gru_before: gru_before_gates,
    cells.gru_after: gru_after_gates,
    cells.gru_simple: gru_simple_gates,
}
GATES = ("i", "f", "o", "r", "u")  # between 0 and 1; the others have a sign
ORDER = ("i", "f", "g", "o", "r", "u", "n", "c", "h")


def gates(model: LanguageModel, ids: np.ndarray, layer: int = 0) -> dict[str, np.ndarray]:
    """Every gate and state (T, H) of a layer while the model reads ``ids`` (T,) from its first state.

    LSTM: i, f, g, o, c, h; GRU: r, u, n, h; RNN: h (the names of ``nn.cells``). Of an own cell: h, c.

    >>> from minigrad.models import CharVocabulary, LanguageConfig
    >>> model = LanguageModel(LanguageConfig(cell="gru", hidden=5), CharVocabulary.of("abc"), generator=0)
    >>> {name: a.shape for name, a in gates(model, model.vocabulary.encode("abba")).items()}
    {'r': (4, 5), 'u': (4, 5), 'n': (4, 5), 'h': (4, 5)}
    """
    with model.inference():
        ys, start = model.embedding(ids[:, None]), model.initial_state(1)
        scans = list(_scans(model._stacks(), start, ys))
        if not 0 <= layer < len(scans):
            raise UserError(describe("layer", str(layer), f"0 to {len(scans) - 1}"))
        for module, suffix, start in scans[: layer + 1]:
            opened = OPENED.get(module.cell()) or _without_gates(module.cell())
            found, _ = scan(opened, module.cell_parameters(suffix), ys, start)
            ys = found["h"]
    return {name: found[name].numpy()[:, 0] for name in ORDER if name in found}


# ------------------------------------------------------------------------------------------------ neighbours, curves


def nearest(vectors: np.ndarray, i: int, count: int = 10) -> list[tuple[int, float]]:
    """The rows of ``vectors`` (V, D) whose cosine with row i is largest, best first, without i; a row of zeros has 0.

    >>> nearest(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]), 0, 2)
    [(1, 0.9987523388778446), (2, 0.0)]
    """
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors[i] / np.maximum(lengths * lengths[i], 1e-300)  # (V,)
    order = np.argsort(-cosines, kind="stable")
    return [(int(j), float(cosines[j])) for j in order[order != i][:count]]


class Run(NamedTuple):
    """A training as its metrics tell it: columns of equal length, NaN where a record has no such number."""

    name: str
    columns: dict[str, np.ndarray]

    def pairs(self, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        """The points where both are there."""
        nothing = np.full(len(self.columns["step"]), math.nan)
        a, b = self.columns.get(x, nothing), self.columns.get(y, nothing)
        good = np.isfinite(a) & np.isfinite(b)
        return a[good], b[good]


def read_metrics(path: Path) -> Run:
    """The records of a ``*.metrics.jsonl`` (``models.progress.Metrics``); UserError if the file holds none."""
    where, expected = f"metrics {path}", "a .metrics.jsonl written by minigrad lm train"
    try:
        records = read_records(path)
    except OSError as error:
        raise UserError(describe(where, error.strerror or str(error), expected)) from None
    if not records:
        raise UserError(describe(where, "no line of JSON with a step", expected))
    names = sorted({name for r in records for name, value in r.items() if _number(value)})
    columns = {n: np.array([r[n] if _number(r.get(n)) else math.nan for r in records], float) for n in names}
    return Run(path.name.removesuffix(".metrics.jsonl"), columns)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300
