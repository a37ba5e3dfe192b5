"""Floor 7: how likely translations are to a model: log p(y | x) of given pairs, whole and symbol by symbol.

log p(y | x) = sum_t log p(y_t | x, y_1 .. y_{t-1}) in nats, with the end as the last symbol.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.batches import side_by_side
from minigrad.models.lm.decode import NUMBERS
from minigrad.models.seq2seq.decode import POSITIONS, WEIGHTS


class Scored(NamedTuple):
    """log p(y | x) in nats, the end included, and the number of symbols that it is the sum over."""

    log_probability: float
    symbols: int


def log_probabilities(model: Any, sources: Sequence[str], targets: Sequence[str], batch: int = 64) -> list[Scored]:
    """log p(target | source) of each pair, in their order; pairs of about one length go through the model together.

    >>> from minigrad.models import CharVocabulary
    >>> from minigrad.models.seq2seq.model import Seq2Seq, Seq2SeqConfig
    >>> v = CharVocabulary.of("abc\\n")
    >>> model = Seq2Seq(Seq2SeqConfig(hidden=8, embedding=4), v, v, generator=0)
    >>> [one.symbols for one in log_probabilities(model, ["cab", "a"], ["bac", ""])]
    [4, 1]
    """
    return [Scored(math.fsum(logp), len(logp)) for logp, _ in _symbols(model, sources, targets, batch)]


class Candidate(NamedTuple):
    """A translation of a given sentence, log p(y | x) in nats, the end included, and its number of symbols with it."""

    text: str
    log_probability: float
    symbols: int


def candidates(model: Any, source: str, targets: Sequence[str]) -> list[Candidate]:
    """Translations of one sentence, the likeliest first; of equal ones that which was given first."""
    scored = log_probabilities(model, [source] * len(targets), targets)
    return sorted((Candidate(text, *one) for text, one in zip(targets, scored)), key=lambda one: -one.log_probability)


class Token(NamedTuple):
    """A symbol of a translation in its place (an unknown one as ``<UNK> word``), and its log p in nats."""

    token: str
    log_probability: float


def tokens(model: Any, source: str, target: str) -> list[Token]:
    """Every symbol of a translation, the end as the last, with what the model thought of it."""
    v = model.target
    ((logp, ids),) = _symbols(model, [source], [target], 1)
    pieces = [*v.split(target), ""]
    shown = [f"{v.token(int(i))} {piece}" if i == v.unknown else v.token(int(i)) for i, piece in zip(ids, pieces)]
    return [Token(*pair) for pair in zip(shown, logp.tolist())]


def _symbols(model: Any, sources: Sequence[str], targets: Sequence[str],
             batch: int) -> list[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """log p of each symbol of each target, its end the last, and the symbols: (n,) float64 and (n,) int64."""
    if isinstance(sources, str) or isinstance(targets, str):  # whose letters would be lines
        raise UserError(describe("score", "one string", "a list of lines"))
    if len(sources) != len(targets):
        raise UserError(describe("score", f"{len(sources):,} sources, {len(targets):,} targets", "as many of both"))
    if batch < 1:
        raise UserError(describe("batch", str(batch), "1 or more"))
    if model.target.end is None:
        raise UserError(describe("score", "a vocabulary without an end", "one that has it"))
    pairs = []
    for number, (source, target) in enumerate(zip(sources, targets), 1):
        x = np.asarray(model.source.encode(source, f"source {number}"), np.int64)
        y = np.append(model.target.encode(target, f"target {number}"), model.target.end).astype(np.int64)
        if not len(x):
            raise UserError(describe(f"source {number}", "an empty one", "a sentence to translate"))
        pairs.append((x, y))
    found: list[Any] = [None] * len(pairs)
    for chosen in _batches([(len(x), len(y)) for x, y in pairs], batch, len(model.target)):
        for i, logp in zip(chosen, _batch(model, [pairs[i] for i in chosen])):
            found[i] = logp, pairs[i][1]
    return found


def _batches(sizes: list[tuple[int, int]], batch: int, V: int) -> Iterator[list[int]]:
    """Which pairs go through the model together, no more than memory is given for."""
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i][1], -sizes[i][0]))
    while order:
        T = sizes[order[0]][1]
        n = min(batch, len(order), max(1, NUMBERS // (T * V)))
        S = max(sizes[i][0] for i in order[:n])
        n = min(n, max(1, POSITIONS // S), max(1, WEIGHTS // (T * S)))
        yield order[:n]
        order = order[n:]


def _batch(model: Any, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    source, lengths = side_by_side([x for x, _ in pairs], np.int64)  # (S, B), (B,)
    target, _ = side_by_side([y for _, y in pairs], np.int64, -100)  # (T, B)
    nll = model.nll(source, lengths, target)
    for b, (_, y) in enumerate(pairs):
        yield -nll[: len(y), b].astype(np.float64)
