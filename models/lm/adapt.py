"""Floor 7: models that go on learning while they read a text: dynamic evaluation, and the continuous neural cache.

Both yield -log p (n,) in nats, window by window, as ``score.stream`` does; the model itself stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.engine.tree import tree_map
from minigrad.errors import UserError, describe
from minigrad.models.lm.ngram import mixed
from minigrad.models.lm.score import windows

LOST = 1e4  # nats of a symbol above which a rate was too large
SCORES = 2**22  # of positions against the cache that are in memory at once, at most


def dynamic(model: Any, ids: np.ndarray, rate: float, *, decay: float = 0.0, window: int = 20,
            rms: dict[str, np.ndarray] | None = None) -> Iterator[np.ndarray]:  # fmt: skip
    """After every window of the text, one gradient step on it; each window is predicted before it is learned.

    w <- w - rate g / (rms + mean(rms)) + min(decay rms / mean(rms), 1) (w_trained - w)

    (Krause, Kahembwe, Murray and Renals 2018, "Dynamic evaluation of neural sequence models"). g is the gradient of
    the mean of -log p over the window; ``rms`` are typical sizes of it (see ``gradient_rms``). Without them, plain
    steps: w - rate g + decay (w_trained - w). mean(rms) below the line is a constant in the paper.

    >>> from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel
    >>> model = LanguageModel(LanguageConfig(hidden=8), CharVocabulary.of("ab"), generator=0)
    >>> nll = np.concatenate(list(dynamic(model, model.vocabulary.encode("ab" * 100), rate=1.0)))
    >>> bool(nll[-50:].mean() < 0.5 * nll[:50].mean())
    True
    """
    if not (math.isfinite(rate) and rate >= 0):
        raise UserError(describe("dynamic", f"a rate of {rate}", "a number of at least 0"))
    if not 0 <= decay <= 1:
        raise UserError(describe("decay", str(decay), "a number from 0 to 1"))
    return _dynamic(twin(model), windows(ids, window), rate, decay, rms)


def _dynamic(model: Any, parts: Iterator[tuple[np.ndarray, np.ndarray]], rate: float, decay: float,
             rms: dict[str, np.ndarray] | None) -> Iterator[np.ndarray]:  # fmt: skip
    trained = model.state_dict()
    mean = _mean(rms) if rms else 1.0
    scale = {name: rate / (rms[name] + mean) if rms else rate for name in trained}
    back = {name: np.minimum(decay * rms[name] / mean, 1) if rms else decay for name in trained}
    state, parameters = model.initial_state(1), list(model.named_parameters())
    for inputs, targets in parts:
        h, after = model.hidden(inputs, state)
        losses = model.output.nll(h, targets)  # (T, 1): predicted and learned from in one pass
        nll = losses.numpy()
        if not nll.max() < LOST:
            got = f"a symbol predicted with {nll.max():.3g} nats"
            raise UserError(describe("dynamic", got, "a model that learns", "use a smaller rate"))
        yield nll[:, 0].astype(np.float64)
        if rate:
            for _, p in parameters:
                p.grad = None
            ops.mean(losses).backward()
            for name, p in ((name, p) for name, p in parameters if p.grad is not None):
                with np.errstate(over="ignore", invalid="ignore"):  # the next prediction shows it
                    new = p.numpy() - scale[name] * p.grad.numpy()
                    new = new + back[name] * (trained[name] - p.numpy()) if decay else new
                p.data = p.beside(new.astype(p.dtype, copy=False)).data
        state = tree_map(lambda s: s.detach(), after)


def gradient_rms(model: Any, ids: np.ndarray, *, window: int = 20, most: int = 500,
                 show: Callable[[float, str], Any] = lambda progress, text: None) -> dict[str, np.ndarray]:  # fmt: skip
    """Root of the mean square of each parameter's gradient over the first windows of a text (``most`` of them);
    ``show(progress, text)`` is called for each."""
    model = twin(model)
    squares, n, state = {name: np.zeros_like(p) for name, p in model.state_dict().items()}, 0, model.initial_state(1)
    for inputs, targets in islice(windows(ids, window), most):
        for name, p in differentiated(model, inputs, targets, state):
            squares[name] = squares[name] + np.square(p.grad.numpy())
        state, n = model.nll(inputs, targets, state)[1], n + 1
        show(min(1.0, max(n / most, n * window / len(ids))), f"gradients of {n:,} windows")
    if not n:
        raise UserError(describe("gradients", f"a text of {len(ids)} symbols", "2 at least"))
    return {name: np.sqrt(s / n) for name, s in squares.items()}


def differentiated(model: Any, inputs: Any, targets: Any, state: Any) -> list[tuple[str, Any]]:
    """Names and parameters, each with its gradient of the mean of -log p, where it has a part in it."""
    model.zero_grad()
    model.loss(inputs, targets, state)[0].backward()
    return [(name, p) for name, p in model.named_parameters() if p.grad is not None]


def _mean(arrays: dict[str, np.ndarray]) -> float:
    return sum(float(a.sum()) for a in arrays.values()) / sum(a.size for a in arrays.values()) + 1e-30


def twin(model: Any) -> Any:
    """A copy to learn with, in evaluation mode."""
    copy = type(model)(model.config, model.vocabulary, generator=0)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def cached(model: Any, ids: np.ndarray, size: int, *, theta: float = 0.3, weight: float = 0.1,
           window: int = 256) -> Iterator[np.ndarray]:  # fmt: skip
    """The model mixed with a memory of the last ``size`` symbols, each under the h_i that should have predicted it.

    p(w) = (1 - weight) p_model(w) + weight p_cache(w),    p_cache(w) = sum_i a_i [x_{i+1} = w]
    a = softmax over i of theta h_t . h_i

    (Grave, Joulin and Usunier 2017, "Improving neural language models with a continuous cache"). At the first symbol,
    with an empty memory, p is the model's.

    >>> from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel
    >>> model = LanguageModel(LanguageConfig(hidden=8), CharVocabulary.of("ab"), generator=0)
    >>> next(cached(model, model.vocabulary.encode("aaaa"), 9, weight=0.5)).round(1).tolist()
    [1.1, 0.4, 0.4]
    """
    if not 1 <= size <= SCORES:
        raise UserError(describe("cache", str(size), f"a number of symbols from 1 to {SCORES:,}"))
    for name, value in (("theta", theta), ("cache weight", weight)):
        if not (math.isfinite(value) and value >= 0):
            raise UserError(describe(name, str(value), "a number of at least 0"))
    if weight > 1:
        raise UserError(describe("cache weight", str(weight), "a number from 0 to 1"))
    return _cached(model, windows(ids, min(window, max(1, SCORES // size))), size, theta, weight)


def _cached(model: Any, parts: Iterator[tuple[np.ndarray, np.ndarray]], size: int, theta: float,
            weight: float) -> Iterator[np.ndarray]:  # fmt: skip
    state = model.initial_state(1)
    keys = values = None
    for inputs, targets in parts:
        with model.inference():
            h, state = model.hidden(inputs, state)
            nll = model.output.nll(h, targets).numpy()[:, 0].astype(np.float64)
        h, n = h.numpy()[:, 0], len(inputs)
        keys = h if keys is None else np.concatenate([keys, h])  # (M + T, H)
        values = targets[:, 0] if values is None else np.concatenate([values, targets[:, 0]])  # (M + T,)
        now = np.arange(len(keys) - n, len(keys))[:, None]  # (T, 1)
        known = (np.arange(len(keys)) < now) & (np.arange(len(keys)) >= now - size)  # (T, M + T)
        scores = np.where(known, theta * (h @ keys.T).astype(np.float64), -np.inf)
        a = np.exp(scores - np.where(known, scores, -math.inf).max(-1, keepdims=True, initial=-1e300))
        share = (a * (values == targets)).sum(-1) / np.maximum(a.sum(-1), 1e-300)  # p_cache, (T,)
        with np.errstate(divide="ignore"):
            yield np.where(known.any(-1), mixed(nll, -np.log(share), 1 - weight), nll)
        keys, values = keys[-size:], values[-size:]
