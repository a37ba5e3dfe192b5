"""Floor 7: translations: the outputs of a model for lines of text, many at once, in the order of the lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.batches import side_by_side
from minigrad.models.lm.decode import NUMBERS
from minigrad.models.seq2seq.beam import Decoding, Hypothesis, check_vocabulary, search

__all__ = ["Decoding", "Translation", "translate"]

AHEAD = 16  # batches of lines that are read and sorted by length together
POSITIONS = 2**16  # source symbols of all rows of a batch, at most
WEIGHTS = 2**26  # numbers of attention that a batch keeps, at most


class Translation(NamedTuple):
    """An output for a line.

    score:            what outputs are ranked by: log p, by length and coverage as asked for
    log_probability:  log p(y | x) in nats, the model's own, the end included
    ids:              symbols (T,), with the end unless the limit cut it off
    weights:          attention (T, S) of each of them to the source, or None
    complete:         whether the end was reached
    """

    text: str
    score: float
    log_probability: float
    ids: np.ndarray
    weights: np.ndarray | None
    complete: bool


def translate(model: Any, lines: Iterable[str], how: Decoding | None = None,
              batch: int = 64) -> Iterator[list[Translation]]:  # fmt: skip
    """For each line, in their order, its translations, best first: ``how.n_best`` at most, one at least.

    Lines go through the model ``batch`` at a time, those of about one length together (fewer at a time if they are very
    long), which does not change what comes out. ``16 * batch`` lines are read ahead; with a batch of 1, none. An empty
    line has an empty translation. A line that the vocabulary cannot encode is an error, raised when all lines before
    it are translated.

    >>> from minigrad.models import CharVocabulary
    >>> from minigrad.models.seq2seq.model import Seq2Seq, Seq2SeqConfig
    >>> v = CharVocabulary.of("abc\\n")
    >>> model = Seq2Seq(Seq2SeqConfig(hidden=8, embedding=4), v, v, generator=0)
    >>> [len(found) for found in translate(model, ["cab", "", "a"], Decoding(n_best=3))]
    [3, 1, 3]
    """
    how = how or Decoding()
    if isinstance(lines, str):  # whose letters would be lines
        raise UserError(describe("translate", "one string", "a list of lines"))
    if batch < 1:
        raise UserError(describe("batch", str(batch), "1 or more"))
    check_vocabulary(model.target, how)
    return _translations(model, iter(lines), how, batch)


def _translations(model: Any, lines: Iterator[str], how: Decoding, batch: int) -> Iterator[list[Translation]]:
    number = 0
    while window := list(islice(lines, batch * AHEAD if batch > 1 else 1)):
        sources, error = [], None
        for line in window:
            number += 1
            try:
                sources.append(np.asarray(model.source.encode(line, f"line {number}"), np.int64))
            except UserError as found:
                error = found
                break
        yield from _in_order(model, window, sources, how, batch)
        if error:
            raise error


def _in_order(model: Any, lines: list[str], sources: list[np.ndarray], how: Decoding,
              batch: int) -> Iterator[list[Translation]]:  # fmt: skip
    found: list[list[Translation] | None] = [None] * len(sources)
    for i, ids in enumerate(sources):
        if not len(ids):
            found[i] = [Translation("", 0.0, 0.0, ids, None, True)]
    batches = sorted(batches_of([len(ids) for ids in sources], how, batch, len(model.target)), key=min)
    for i in range(len(sources)):
        if found[i] is None:
            chosen = batches.pop(0)
            for j, outputs in zip(chosen, _searched(model, [sources[j] for j in chosen], how)):
                found[j] = [_translation(model, lines[j], one, how) for one in outputs]
        yield found[i]
        found[i] = []


def batches_of(lengths: list[int], how: Decoding, batch: int, V: int) -> Iterator[list[int]]:
    """Which sources go through the model together: of about one length, and no more than memory is given for.

    >>> list(batches_of([3, 0, 9, 4], Decoding(), 2, 100))
    [[2, 3], [0]]
    """
    order = sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i])
    while order:
        S = lengths[order[0]]
        row = max(S / POSITIONS, V / NUMBERS, S * int(how.limits(np.array(S))) / WEIGHTS)  # share of what there is
        n = min(batch, max(1, int(1 / (row * how.rows))))
        yield order[:n]
        order = order[n:]


def _searched(model: Any, sources: list[np.ndarray], how: Decoding) -> list[list[Hypothesis]]:
    (source, lengths), v = side_by_side(sources, np.int64), model.target  # (S, B), (B,)
    with model.inference():
        return search(model, source, lengths, how, start=v.start, end=v.end, unknown=v.unknown)


def _translation(model: Any, line: str, found: Hypothesis, how: Decoding) -> Translation:
    v, ids = model.target, found.ids[: len(found.ids) - found.complete]
    if not how.replace_unknown or v.unknown is None or v.unknown not in ids:
        return Translation(v.decode(ids), *found)
    words = model.source.split(line)
    if not model.source.kind == v.kind == "words":  # whose marks say where there is no space
        words = [model.source.join([word]) for word in words]
    most = found.weights[: len(ids)].argmax(-1)  # (T,)
    text = v.join(words[s] if i == v.unknown else v.token(i) for i, s in zip(ids.tolist(), most))
    return Translation(text, *found)
