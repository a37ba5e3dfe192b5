"""Floor 7: what a network learned, as figures: gradients through time, gates over a text, neighbours, loss curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from minigrad.models.lm.model import LanguageModel
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


def state_gradients(layer: Recurrent, x: Any, objective: Callable[[Tensor], Tensor], state: Any = None) -> list[list]:
    """dL/ds_t of L = objective(output), through the compiled scan; found[k][j] (T, B, H) is layer k's, of state j.

    x (T, B, I), output (T, B, H); the states of an LSTM are h and c, each derivative with the other held. Hochreiter
    (1991) and Bengio, Simard and Frasconi (1994) on how it fades; Pascanu, Mikolov and Bengio (2013) on how it grows.

    >>> import minigrad as mg
    >>> layer, x = mg.nn.LSTM(2, 3, generator=0), mg.tensor(np.ones((4, 1, 2), np.float32))
    >>> (h, c), = state_gradients(layer, x, lambda ys: ys[-1].sum())
    >>> h.shape, h[-1].tolist(), c[-1].tolist()
    ((4, 1, 3), [[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]])
    """
    steps, batch = x.shape[:2]
    zeros = [[Tensor(np.zeros((steps, batch, n), x.dtype)) for n in layer.widths()] for _ in range(layer.num_layers)]

    def loss(probes: Any) -> Tensor:
        ys = x
        for k, start in enumerate(_starts(layer, state, batch, x.dtype)):
            cell, p, inputs, start = layer.equipped(layer.cell_parameters(f"l{k}"), ys, start)
            ys, _ = scan(probed(cell), p, (inputs, tuple(probes[k])), start)
        return objective(ys)

    value, pull = vjp(loss, zeros)
    (found,) = pull(np.ones(value.shape, value.dtype))
    return [[g.numpy() for g in layer_] for layer_ in found]


def _starts(layer: Recurrent, state: Any, batch: int, dtype: Any) -> list[Any]:
    """The first state of each layer; None is zeros."""
    assert not layer.bidirectional
    if state is None:
        zeros = [np.zeros((layer.num_layers, batch, n), dtype) for n in layer.widths()]
        state = tuple(zeros) if layer.states == 2 else zeros[0]
    parts = [s.numpy() if isinstance(s, Tensor) else s for s in leaves(state)]
    return [rebuild(state, [Tensor(s[k]) for s in parts]) for k in range(layer.num_layers)]


def gradient_norms(model: LanguageModel, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The mean over B of ||dL_T/ds_t||, (T,), for each state of each layer: "h", "c", or "h1", "h2" of several layers.

    ids (T + 1, B); L_T = -log p(ids[T] | ids[0] .. ids[T-1]), the loss of the last symbol alone.
    """
    with _evaluating(model):
        x, start = model.embedding(ids[:-1]).detach(), model.initial_state(ids.shape[1])

        def objective(ys: Tensor) -> Tensor:
            return ops.cross_entropy(logits(model, ys[-1]), ids[-1]) * float(ids.shape[1])  # the sum over B

        found = state_gradients(model.recurrent, x, objective, start)
    names = [[s + (str(k + 1) if len(found) > 1 else "") for s in STATES] for k in range(len(found))]
    return {name: np.sqrt(np.square(g.astype(np.float64)).sum(-1)).mean(-1)
            for layer, row in zip(found, names) for g, name in zip(layer, row)}  # fmt: skip


def logits(model: LanguageModel, h: Tensor) -> Tensor:
    """(..., V) of hidden states (..., H)."""
    return model.output(h)


@contextmanager
def _evaluating(model: LanguageModel) -> Iterator[None]:
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


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
    back = norms[::-1] <= 0.01 * norms[-1] * (1 + 1e-9)
    if not factors.size:
        return Fading(math.nan, math.nan, math.nan, None)
    return Fading(float(np.median(factors)), float(factors.min()), float(factors.max()),
                  int(back.argmax()) if back.any() else None)  # fmt: skip


class Clipped(NamedTuple):
    """A way to clip, its bound, the gradient's norm before and after, and the cosine between the two."""

    by: str
    bound: float
    before: float
    after: float
    cosine: float


def clipping(gradients: Sequence[Tensor], max_norm: float | None = None, max_value: float | None = None) -> list[Clipped]:
    """What clipping by norm and by value (``optim.clip_grad_norm_``, ``clip_grad_value_``) does to the gradients of a
    model: by norm the direction stays, by value it turns. Without bounds, both are such that half the norm is left.

    >>> import minigrad as mg
    >>> [(c.by, round(c.after, 3), round(c.cosine, 3)) for c in clipping([mg.tensor([3.0, 4.0])], 1.0, 1.0)]
    [('norm', 1.0, 1.0), ('value', 1.414, 0.99)]
    """
    raw = _flat(gradients)
    before = float(np.linalg.norm(raw))
    max_norm = before / 2 if max_norm is None else max_norm
    max_value = _halving(raw) if max_value is None else max_value
    found = []
    for by, clip, bound in (("norm", clip_grad_norm_, max_norm), ("value", clip_grad_value_, max_value)):
        standing: list[Any] = [SimpleNamespace(grad=g) for g in gradients]
        clip(standing, bound)
        new = _flat([s.grad for s in standing])
        after = float(np.linalg.norm(new))
        found.append(Clipped(by, bound, before, after, float(raw @ new) / (before * after)))
    return found


def _flat(gradients: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([g.numpy().astype(np.float64).ravel() for g in gradients])


def _halving(raw: np.ndarray) -> float:
    """The bound of values that leaves half the norm: below it the squares stay, above each becomes the bound's."""
    low, high = 0.0, float(np.abs(raw).max())
    for _ in range(60):
        middle = (low + high) / 2
        small = np.linalg.norm(np.clip(raw, -middle, middle)) < np.linalg.norm(raw) / 2
        low, high = (middle, high) if small else (low, middle)
    return high


# ------------------------------------------------------------------------------------------------ gates over a text


def lstm_gates(p: Any, x: Any, state: Any) -> Any:
    """``cells.lstm`` and ``cells.lstm_variant`` (peepholes, coupled gates, layer normalisation), every part an output."""
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
    def named(p: Any, x: Any, h: Any) -> Any:
        h, _ = cell(p, x, h)
        return h, {"h": h}

    return named


OPENED = {
    cells.lstm: lstm_gates, cells.lstm_variant: lstm_gates, cells.gru_before: gru_before_gates,
    cells.gru_after: gru_after_gates, cells.gru_simple: gru_simple_gates, cells.rnn_tanh: _without_gates(cells.rnn_tanh),
    cells.rnn_relu: _without_gates(cells.rnn_relu),
}  # fmt: skip
GATES = ("i", "f", "o", "r", "u")  # between 0 and 1; the others have a sign
ORDER = ("i", "f", "g", "o", "r", "u", "n", "c", "h")


def gates(model: LanguageModel, ids: np.ndarray, layer: int = 0) -> dict[str, np.ndarray]:
    """Every gate and state (T, H) of a layer while the model reads ``ids`` (T,) from its first state.

    LSTM: i, f, g, o, c, h; GRU: r, u, n, h; RNN: h (the names of ``nn.cells``).

    >>> from minigrad.models import CharVocabulary, LanguageConfig
    >>> model = LanguageModel(LanguageConfig(cell="gru", hidden=5), CharVocabulary.of("abc"), generator=0)
    >>> {name: a.shape for name, a in gates(model, model.vocabulary.encode("abba")).items()}
    {'r': (4, 5), 'u': (4, 5), 'n': (4, 5), 'h': (4, 5)}
    """
    recurrent = model.recurrent
    if not 0 <= layer < recurrent.num_layers:
        raise UserError(describe("layer", str(layer), f"0 to {recurrent.num_layers - 1}"))
    if recurrent.cell() not in OPENED:
        raise UserError(describe("gates", f"a {model.config.cell}", "a cell with known equations"))
    with model._inference():
        ys = model.embedding(ids[:, None])
        starts = _starts(recurrent, model.initial_state(1), 1, ys.dtype)
        for k in range(layer + 1):
            found, _ = scan(OPENED[recurrent.cell()], recurrent.cell_parameters(f"l{k}"), ys, starts[k])
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
        lines = path.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
    except OSError as error:
        raise UserError(describe(where, error.strerror or str(error), expected)) from None
    except (ValueError, RecursionError):
        raise UserError(describe(where, "lines that are no JSON", expected)) from None
    if not records or not all(isinstance(r, dict) and _number(r.get("step")) for r in records):
        raise UserError(describe(where, "records without a step" if records else "an empty file", expected))
    names = sorted({name for r in records for name, value in r.items() if _number(value)})
    columns = {n: np.array([r[n] if _number(r.get(n)) else math.nan for r in records], float) for n in names}
    return Run(path.name.removesuffix(".metrics.jsonl"), columns)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
