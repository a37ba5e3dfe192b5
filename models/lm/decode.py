"""Floor 7: what a language model writes: samples, and the likeliest continuation by beam search.

Every text begins after ``vocabulary.start``. Probabilities are computed in float64 from the model's logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from minigrad.engine.tree import tree_map
from minigrad.errors import UserError, describe
from minigrad.models.settings import Settings, flag, real, share, whole
from minigrad.nn.module import Seed, as_generator

WINDOW = 256  # symbols of a long prompt that are read at once
NUMBERS = 2**25  # of a distribution over symbols that are in memory at once, at most


@dataclass(frozen=True)
class Sampling(Settings):
    """How a text is drawn: softmax(logits / temperature), of the likeliest symbols only if asked for."""

    length: int = whole(500, 0, 10**9, "symbols to write (words or characters, as the model has them)")
    temperature: float = real(0.8, 0, np.inf, "0: always the likeliest; 1: as the model says", closed=True)
    top_k: int | None = whole(None, 1, 10**9, "draw from the K likeliest symbols only")
    top_p: float | None = share(None, "draw from the fewest symbols that together have this probability (nucleus)")
    unknown: bool = flag("<UNK> may be written too")
    stop: bool = flag("end with the line (<EOS>), even before --length")


def sample(model: Any, settings: Sampling, prompt: str = "", generator: Seed = None) -> Iterator[str]:
    """Yield the text behind ``prompt`` piece by piece, each a symbol with the space before it, if there is one."""
    v, context = model.vocabulary, _context(model, prompt, settings)
    drawn = (int(ids[0]) for ids in _draws(model, context, 1, settings, as_generator(generator)))
    return _pieces(v, context[-1], takewhile(lambda i: not settings.stop or i != v.end, drawn))


def samples(model: Any, count: int, settings: Sampling, prompt: str = "", generator: Seed = None) -> list[str]:
    """``count`` continuations of ``prompt``, drawn side by side."""
    context, rng, v = _context(model, prompt, settings), as_generator(generator), model.vocabulary
    if count < 1:
        raise UserError(describe("count", str(count), "1 or more"))
    at_once, texts = max(1, NUMBERS // (8 * len(v))), []
    for first in range(0, count, at_once):
        drawn = list(_draws(model, context, min(at_once, count - first), settings, rng))
        for ids in np.reshape(drawn, (len(drawn), min(at_once, count - first))).T:  # (T,) of each
            ended = np.flatnonzero(ids == v.end) if settings.stop else []
            texts.append(joined(v, context[-1], ids[: ended[0]] if len(ended) else ids))
    return texts


class Completion(NamedTuple):
    """A continuation, its log-probability after the prompt in nats, and its symbols."""

    text: str
    log_probability: float
    ids: np.ndarray


def complete(model: Any, prompt: str = "", length: int = 10, beam: int = 8, *, unknown: bool = False,
             stop: bool = False) -> list[Completion]:  # fmt: skip
    """The likeliest continuations of ``length`` symbols that a beam search finds, best first, at most ``beam``.

    After each symbol the ``beam`` likeliest beginnings are kept. A beam of 1 is greedy; one as wide as the number of
    all continuations finds the best of them. With ``stop``, a continuation may also end earlier, with <EOS>.
    """
    v = model.vocabulary
    settings = Sampling(length=length, unknown=unknown, stop=stop)
    if not 1 <= beam <= NUMBERS // len(v):
        raise UserError(describe("beam", str(beam), f"a width from 1 to {NUMBERS // len(v):,}"))
    context = _context(model, prompt, settings)
    logp, state = following(model, context[:, None], model.initial_state(1))  # (B, V): B beginnings, at first one
    ids, scores = np.zeros((1, 0), np.int64), np.zeros(1)  # (B, t), (B,)
    ended: list[tuple[float, np.ndarray]] = []
    for t in range(length):
        if t:
            logp, state = following(model, ids[None, :, -1], state)
        total = scores[:, None] + _allowed(v, logp, unknown)
        rows, last = _best(total, beam)
        ids, scores = np.column_stack([ids[rows], last]), total[rows, last]
        going = last != v.end if stop else np.full(len(last), True)
        ended += zip(scores[~going].tolist(), ids[~going])
        if len(ended) >= beam:  # a beginning only gets less likely
            going &= scores > sorted((s for s, _ in ended), reverse=True)[beam - 1]
        if not going.any():
            ids, scores = ids[:0], scores[:0]
            break
        ids, scores, state = ids[going], scores[going], rows_of(state, rows[going])
    found = sorted([*ended, *zip(scores.tolist(), ids)], key=lambda pair: -pair[0])[:beam]
    return [Completion(joined(v, context[-1], ids), score, ids) for score, ids in found]


# ------------------------------------------------------------------------------------------------ the distribution


def following(model: Any, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """log p (B, V) of what follows ``ids`` (T, B), and the state after them."""
    with model.inference():
        for t in range(0, len(ids), WINDOW):
            h, state = model.hidden(ids[t : t + WINDOW], state)
        logits = model.logits(h[-1]).numpy().astype(np.float64)
    return log_softmax(logits), state


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log(exp(logits) / sum exp(logits)) over the last axis.

    >>> np.exp(log_softmax(np.array([1000.0, 1000.0]))).round(3).tolist()
    [0.5, 0.5]
    """
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def weights(logp: np.ndarray, temperature: float = 1.0, top_k: int | None = None,
            top_p: float | None = None) -> np.ndarray:  # fmt: skip
    """What a symbol is drawn in proportion to, (..., V), from log p (..., V).

    The temperature first, then the ``top_k`` likeliest, then of those the nucleus: the fewest that have together at
    least the share ``top_p`` (Holtzman et al. 2020, "The curious case of neural text degeneration").

    >>> weights(np.log([0.5, 0.3, 0.2]), top_p=0.7).round(3).tolist()
    [1.0, 0.6, 0.0]
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    with np.errstate(over="ignore", under="ignore"):
        found = np.exp((logp - logp.max(-1, keepdims=True)) / temperature)
    if top_k is None and top_p is None:
        return found
    order = np.argsort(-logp, axis=-1, kind="stable")[..., :top_k]  # (..., K), best first
    kept = np.take_along_axis(found, order, -1)
    if top_p is not None and top_p < 1:
        cumulative = kept.cumsum(-1)
        kept = np.where(cumulative - kept < top_p * cumulative[..., -1:], kept, 0.0)
    found = np.zeros_like(found)
    np.put_along_axis(found, order, kept, -1)
    return found


def draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Symbols (B,), each in proportion to its row of ``weights`` (B, V).

    >>> draw(np.array([[0.0, 2.0], [3.0, 0.0]]), np.random.default_rng(0)).tolist()
    [1, 0]
    """
    cumulative = weights.cumsum(-1)
    return (cumulative <= rng.random((len(weights), 1)) * cumulative[:, -1:]).sum(-1)


# ------------------------------------------------------------------------------------------------ symbols and text


def joined(v: Any, before: int, ids: Any) -> str:
    """The text of ``ids`` as it goes on after the symbol ``before``."""
    return "".join(_pieces(v, before, iter(ids)))


def rows_of(state: Any, rows: Any) -> Any:
    """The state of some of the streams, (layers, B, H) -> (layers, rows, H)."""
    return tree_map(lambda s: s.beside(s.numpy()[:, rows]), state)


def _pieces(v: Any, before: int, ids: Iterator[int]) -> Iterator[str]:
    for i in ids:
        yield v.decode([before, i]).removeprefix(v.decode([before]))
        before = i


def _context(model: Any, prompt: str, settings: Sampling) -> np.ndarray:
    """What is read before the first symbol is drawn (T,)."""
    v = model.vocabulary
    if settings.stop and v.end is None:
        raise UserError(describe("stop", "a model that knows no line end", "one trained on text with lines"))
    return np.append(v.start, v.encode(prompt, "prompt")).astype(np.int64)


def _allowed(v: Any, logp: np.ndarray, unknown: bool) -> np.ndarray:
    if unknown or v.unknown is None:
        return logp
    return np.where(np.arange(len(v)) == v.unknown, -np.inf, logp)


def _draws(model: Any, context: np.ndarray, count: int, s: Sampling, rng: Any) -> Iterator[np.ndarray]:
    """Symbols (count,) again and again; with ``stop``, until each stream has ended."""
    v, done = model.vocabulary, np.zeros(count, bool)
    ids, state = context[:, None], model.initial_state(1)
    for t in range(s.length):
        logp, state = following(model, ids, state)
        if t == 0 and count > 1:
            logp, state = np.repeat(logp, count, 0), rows_of(state, np.zeros(count, np.int64))
        drawn = draw(weights(_allowed(v, logp, s.unknown), s.temperature, s.top_k, s.top_p), rng)
        yield drawn
        done |= s.stop & (drawn == v.end)
        if done.all():
            return
        ids = drawn[None]


def _best(total: np.ndarray, beam: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the ``beam`` largest finite numbers, from the largest; the first of two that are equal."""
    flat = total.ravel()
    at = np.argpartition(-flat, beam - 1)[:beam] if beam < len(flat) else np.arange(len(flat))
    at = at[np.isfinite(flat[at])]
    return np.divmod(at[np.lexsort((at, -flat[at]))], total.shape[1])
