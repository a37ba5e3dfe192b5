"""Floor 7: how likely a text is to a language model: whole, symbol by symbol, and against another.

log p(text) = sum_t log p(x_t | start, x_1 .. x_{t-1}), in nats; ``start`` is a line end.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.batches import columns, sentence_edges
from minigrad.models.lm.decode import NUMBERS, log_softmax, rows_of
from minigrad.models.text import read_text

ROWS, SYMBOLS = 256, 8192  # texts side by side, and symbols that go through the model in one call, at most


def log_probabilities(model: Any, texts: Sequence[str], *, end: bool = False) -> list[np.ndarray]:
    """log p of every symbol of every text, (n,) each, in nats; with ``end``, also of the line end behind it.

    The texts go through the model side by side, the long ones in windows with their state carried.

    >>> from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel
    >>> model = LanguageModel(LanguageConfig(hidden=8), CharVocabulary.of("abc\\n"), generator=0)
    >>> [len(logp) for logp in log_probabilities(model, ["cab", "a"], end=True)]
    [4, 2]
    """
    return _scored(model, [_stream(model.vocabulary, text, end) for text in texts])


def _scored(model: Any, streams: Sequence[np.ndarray]) -> list[np.ndarray]:
    """log p of the symbols behind the first of each stream."""
    order = sorted(range(len(streams)), key=lambda i: -len(streams[i]))
    found = [np.empty(0)] * len(streams)
    for first in range(0, len(order), ROWS):
        some = order[first : first + ROWS]
        for i, logp in zip(some, _side_by_side(model, [streams[i] for i in some])):
            found[i] = logp
    return found


def _stream(v: Any, text: str, end: bool) -> np.ndarray:
    """Symbols of a text (n,), behind the start."""
    if end and v.end is None:
        raise UserError(describe("end", "a model that knows no line end", "one trained on text with lines"))
    return np.concatenate([[v.start], v.encode(text, "text"), [v.end] if end else []]).astype(np.int64)


def unknown(v: Any, text: str) -> list[str]:
    """The symbols of a text that the vocabulary does not know, each as often as it occurs.

    >>> from minigrad.models import WordVocabulary
    >>> unknown(WordVocabulary.of("the cat"), "the big cat")
    ['big']
    """
    return [piece for i, piece in zip(v.encode(text), v.split(text)) if i == v.unknown]


def _side_by_side(model: Any, streams: list[np.ndarray]) -> list[np.ndarray]:
    """log p of the symbols behind the first of each stream; the longest stream comes first."""
    lengths = np.array([len(ids) - 1 for ids in streams])
    state, parts, t = model.initial_state(len(streams)), [[] for _ in streams], 0
    while n := int((lengths > t).sum()):  # the streams that go on
        window = min(max(1, SYMBOLS // n), lengths[0] - t)
        ids = np.zeros((window + 1, n), np.int64)  # zeros behind an end: computed and not used
        for b in range(n):
            part = streams[b][t : t + window + 1]
            ids[: len(part), b] = part
        nll, state = model.nll(ids[:-1], ids[1:], rows_of(state, slice(0, n)))
        for b in range(n):
            parts[b].append(-nll[: lengths[b] - t, b].astype(np.float64))
        t += window
    return [np.concatenate([np.empty(0), *part]) for part in parts]


class Token(NamedTuple):
    """A symbol in its place (an unknown one as ``<UNK> word``): log p in nats, its rank among all (1: the likeliest),
    and the likeliest other symbol."""

    token: str
    log_probability: float
    rank: int
    alternative: str
    alternative_log_probability: float


def token_table(model: Any, text: str, *, end: bool = False) -> Iterator[Token]:
    """Every symbol of a text with what the model thought of it."""
    v = model.vocabulary
    ids = _stream(v, text, end)
    pieces = iter([*v.split(text), ""])
    state, window = model.initial_state(1), max(1, min(SYMBOLS, NUMBERS // (8 * len(v))))
    for t in range(0, len(ids) - 1, window):
        part = ids[t : t + window + 1]
        with model.inference():
            logits, state = model(part[:-1, None], state)
        logp, rows = log_softmax(logits.numpy()[:, 0].astype(np.float64)), np.arange(len(part) - 1)  # (T, V)
        own = logp[rows, part[1:]]
        ranks = 1 + (logp > own[:, None]).sum(-1)
        logp[rows, part[1:]] = -np.inf
        others = logp.argmax(-1)
        for i, p, rank, other, q, piece in zip(part[1:], own, ranks, others, logp[rows, others], pieces):
            shown = f"{v.token(int(i))} {piece}" if i == v.unknown else v.token(int(i))
            yield Token(shown, float(p), int(rank), v.token(int(other)), float(q))


def stream(model: Any, ids: np.ndarray, window: int = 256, streams: int = 1) -> Iterator[np.ndarray]:
    """-log p (n,) of the symbols of a text but its first, in nats, part by part: with the state carried from window to
    window, of one stream or several side by side, or, of a model of sentences, each sentence by itself."""
    if model.config.sentences:
        yield from _sentences(model, ids)
        return
    state = model.initial_state(streams)
    for inputs, targets in windows(ids, window, streams):
        nll, state = model.nll(inputs, targets, state)
        yield nll.ravel().astype(np.float64)


def _sentences(model: Any, ids: np.ndarray) -> Iterator[np.ndarray]:
    v, skip = model.vocabulary, 1  # the first symbol of the text
    edges = sentence_edges(ids, v.end)
    for first in range(0, len(edges) - 1, ROWS):
        some = edges[first : first + ROWS + 1]
        streams = [np.append(v.start, ids[a:b]).astype(np.int64) for a, b in zip(some, some[1:])]
        yield -np.concatenate(_scored(model, streams))[skip:]
        skip = 0


def windows(ids: np.ndarray, window: int, streams: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets (T, B) of one stream, or of several (see ``columns``).

    >>> [targets.ravel().tolist() for _, targets in windows(np.arange(6), 2)]
    [[1, 2], [3, 4], [5]]
    """
    inputs, targets = columns(ids, streams)  # (L, B)
    for t in range(0, len(inputs), window):
        yield inputs[t : t + window], targets[t : t + window]


# ------------------------------------------------------------------------------------------------ minimal pairs


class Pair(NamedTuple):
    """Two sentences that differ in one thing, of which people find the first better."""

    kind: str
    better: str
    worse: str


def read_pairs(path: str | os.PathLike) -> list[Pair]:
    """Lines of kind, better and worse sentence with tabs between; empty lines and those with # are comments."""
    where, expected = f"pairs {path}", "kind, better and worse sentence with tabs between them"
    found = []
    for number, line in enumerate(read_text(path).content.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or not all(fields):
            raise UserError(describe(where, f"line {number} with {len(fields)} columns or an empty one", expected))
        if fields[1] == fields[2]:
            raise UserError(describe(where, f"line {number} with the same sentence twice", expected))
        found.append(Pair(*fields))
    if not found:
        raise UserError(describe(where, "no pairs", expected))
    return found


class Judgement(NamedTuple):
    """A pair with the log-probabilities of its sentences, in nats."""

    pair: Pair
    better: float
    worse: float

    @property
    def right(self) -> bool:
        return self.better > self.worse


def judge(model: Any, pairs: Sequence[Pair], *, end: bool = False) -> list[Judgement]:
    """Which sentence of each pair the model finds likelier."""
    scores = log_probabilities(model, [text for pair in pairs for text in (pair.better, pair.worse)], end=end)
    totals = [math.fsum(logp) for logp in scores]
    return [Judgement(*given) for given in zip(pairs, totals[::2], totals[1::2])]
