"""Floor 7: what vectors of words are worth: analogies (questions-words) and similarity as people judge it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.kernels.cpu.gemm import product
from minigrad.models.embed.vectors import EPSILON, METHODS, WordVectors
from minigrad.models.text import read_text

AMONG = 300_000  # words, the first ones, that are looked at
QUESTIONS, ROWS = 512, 4096  # done together: 8 MB of scores

Question = tuple[str, str, str, str]
Pair = tuple[str, str, float]

# ---------------------------------------------------------------- files


def _lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not empty."""
    for number, line in enumerate(read_text(path).content.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def read_analogies(path: str | os.PathLike) -> dict[str, list[Question]]:
    """Sections of questions a : b :: c : d, in the format of word2vec's questions-words.txt: ``: section``, and below
    it four words a line. UserError naming the first line that is neither."""
    sections: dict[str, list[Question]] = {}
    own: list[Question] | None = None
    for number, line in _lines(path):
        if line.startswith(":"):
            own = sections.setdefault(line[1:].strip(), [])
            continue
        words = line.split()
        if len(words) != 4:
            raise UserError(describe(f"analogies {path}", f"line {number:,}: {_short(line)}", "': section' or four words"))
        if own is None:
            own = sections.setdefault("questions", [])
        own.append((words[0], words[1], words[2], words[3]))
    if not any(sections.values()):
        raise UserError(describe(f"analogies {path}", "no question", "four words a line"))
    return sections


def read_pairs(path: str | os.PathLike) -> list[Pair]:
    """Lines of two words and how similar people find them, with tabs or spaces between; ``#`` begins a comment.
    UserError naming the first line that is none."""
    pairs = []
    for number, line in _lines(path):
        if line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("\t")] if "\t" in line else line.split()
        try:
            a, b, score = parts[0], parts[1], float(parts[2]) if len(parts) == 3 else math.nan
        except (ValueError, IndexError):
            score = math.nan
        if not math.isfinite(score):
            expected = "two words and a number"
            raise UserError(describe(f"similarity {path}", f"line {number:,}: {_short(line)}", expected))
        pairs.append((a, b, score))
    if not pairs:
        raise UserError(describe(f"similarity {path}", "no pair", "lines of two words and a number"))
    return pairs


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else f"{line[:57]}...")


class _Known:
    """The first words of a vocabulary: if ``fold``, capital letters or not, and then the first such word counts."""

    def __init__(self, vectors: WordVectors, among: int, fold: bool):
        self.fold = str.upper if fold else str
        forms = [self.fold(word) for word in vectors.words[:among]]
        self.ids: dict[str, int] = {}
        self.others: dict[str, list[int]] = {}  # later words of the same form
        for i, form in enumerate(forms):
            if self.ids.setdefault(form, i) != i:
                self.others.setdefault(form, []).append(i)

    def rows(self, words: Iterable[str]) -> list[int] | None:
        """Those of words, None if one of them is not known."""
        found = [self.ids.get(self.fold(word), -1) for word in words]
        return None if -1 in found else found

    def same(self, words: Iterable[str]) -> list[int]:
        """All rows of the same forms."""
        forms = {self.fold(word) for word in words}
        return [i for form in forms for i in (self.ids[form], *self.others.get(form, ()))]


# ---------------------------------------------------------------- analogies


class Section(NamedTuple):
    """How many of the questions asked were answered rightly; those with an unknown word were not asked."""

    name: str
    right: int
    asked: int
    skipped: int

    @property
    def accuracy(self) -> float:
        """NaN where nothing was asked."""
        return self.right / self.asked if self.asked else math.nan


def analogies(vectors: WordVectors, sections: dict[str, Sequence[Question]], among: int = AMONG, fold: bool = True,
              method: str = "add") -> list[Section]:  # fmt: skip
    """Answer a : b :: c : ? with ``most_similar([b, c], [a])`` and count, for each section, how often it is d.

    Counted as gensim's ``evaluate_word_analogies`` and word2vec's ``compute-accuracy`` do: among the first ``among``
    words, without regard to capital letters if ``fold``, and a question with a word that is not there is skipped. No
    form of a, b or c is an answer.

    >>> v = WordVectors(["man", "woman", "King", "queen"], [[1, 0], [-1, 0], [1, 2], [-1, 2]])
    >>> analogies(v, {"family": [("man", "woman", "king", "Queen"), ("man", "woman", "boy", "girl")]})
    [Section(name='family', right=1, asked=1, skipped=1)]
    """
    if method not in METHODS:
        raise UserError(describe("analogies", f"method {method!r}", f"one of {', '.join(METHODS)}"))
    known = _Known(vectors, among, fold)
    rows, excluded, right = [], [], {}
    for questions in sections.values():
        for question in questions:
            if question not in right and (found := known.rows(question)):
                right[question] = len(rows)
                rows.append(found)
                excluded.append(known.same(question[:3]))
    asked = np.array(rows, np.int64).reshape(-1, 4)
    answers = _answers(vectors, asked[:, :3], excluded, min(among, len(vectors)), method)
    good = answers == asked[:, 3]
    result = []
    for name, questions in sections.items():
        places = [right[question] for question in questions if question in right]
        result.append(Section(name, int(good[places].sum()), len(places), len(questions) - len(places)))
    return result


def totals(sections: Sequence[Section]) -> list[Section]:
    """Those of all sections, and where both kinds are there of the semantic ones and the syntactic ones, which the
    format marks by a name that begins with ``gram``."""
    parts = {"semantic": [s for s in sections if not s.name.startswith("gram")],
             "syntactic": [s for s in sections if s.name.startswith("gram")]}  # fmt: skip
    kinds = {**(parts if all(parts.values()) else {}), "all": sections}
    return [Section(name, *(sum(s[k] for s in own) for k in (1, 2, 3))) for name, own in kinds.items()]


def _answers(vectors: WordVectors, abc: np.ndarray, excluded: list[list[int]], rows: int, method: str) -> np.ndarray:
    """The best row for each question, (Q,); -1 where none is left. abc (Q, 3), ``excluded`` rows of each."""
    found = np.full(len(abc), -1)
    for first in range(0, len(abc), QUESTIONS):
        part = slice(first, first + QUESTIONS)
        found[part] = _some_answers(vectors, abc[part], excluded[part], rows, method)
    return found


def _some_answers(vectors: WordVectors, abc: np.ndarray, excluded: list[list[int]], rows: int, method: str) -> np.ndarray:
    table, lengths = vectors.array, vectors.inverse_norms
    a, b, c = (table[ids] * (1 if method == "euclidean" else lengths[ids, None]) for ids in abc.T)  # (Q, D) each
    at = np.array([i for own in excluded for i in own], np.int64)  # rows that are no answer ...
    of = np.repeat(np.arange(len(abc)), [len(own) for own in excluded])  # ... to these questions
    order = np.argsort(at, kind="stable")
    at, of = at[order], of[order]
    best, found = np.full(len(abc), -np.inf, np.float32), np.full(len(abc), -1)
    for first in range(0, rows, ROWS):
        block, length = table[first : min(first + ROWS, rows)], lengths[first : min(first + ROWS, rows)]
        if method == "add":
            scores = product(b + c - a, block.T) * length  # (Q, R)
        elif method == "mul":
            a_x, b_x, c_x = (1 + np.clip(product(e, block.T) * length, -1, 1) for e in (a, b, c))
            scores = b_x * c_x / (2 * a_x + np.float32(4 * EPSILON))
        else:
            norms = vectors.norms[first : first + len(block)]
            scores = 2 * product(b + c - a, block.T) - norms * norms  # of |x - t|^2 what depends on x
        here = slice(*np.searchsorted(at, (first, first + len(block))))
        scores[of[here], at[here] - first] = -np.inf
        winner = scores.argmax(1)
        score = scores[np.arange(len(abc)), winner]
        better = score > best  # the earlier one of equals
        best[better], found[better] = score[better], first + winner[better]
    return found


# ---------------------------------------------------------------- similarity


class Similarity(NamedTuple):
    """Correlations between the cosines of pairs and what people say; NaN for fewer than two pairs or equal numbers."""

    pearson: float
    spearman: float
    pairs: int
    skipped: int


def similarity(vectors: WordVectors, pairs: Sequence[Pair], among: int = AMONG, fold: bool = True) -> Similarity:
    """Pearson's and Spearman's correlation over the pairs whose words are among the first ``among``.

    >>> v = WordVectors("abc", [[1, 0], [1, 1], [0, 1]])
    >>> similarity(v, [("a", "b", 9.0), ("a", "c", 1.0), ("b", "d", 5.0)])
    Similarity(pearson=1.0, spearman=1.0, pairs=2, skipped=1)
    """
    known = _Known(vectors, among, fold)
    asked = [(rows, score) for a, b, score in pairs if (rows := known.rows((a, b)))]
    ids = np.array([rows for rows, _ in asked], np.int64).reshape(-1, 2)
    x, y = (vectors.array[i].astype(np.float64) for i in ids.T)
    lengths = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    cosines = (x * y).sum(1) / np.where(lengths > 0, lengths, 1)
    people = np.array([score for _, score in asked], np.float64)
    return Similarity(pearson(cosines, people), spearman(cosines, people), len(asked), len(pairs) - len(asked))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """r = cov(x, y) / (std(x) std(y)); NaN if one of them does not vary.

    >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])), 4)
    0.982
    """
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # so that no square underflows
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def ranks(x: np.ndarray) -> np.ndarray:
    """1 .. n in the order of x (n,); equal numbers share the mean of their ranks.

    >>> ranks(np.array([10.0, 30.0, 10.0, 20.0])).tolist()
    [1.5, 4.0, 1.5, 3.0]
    """
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of the ranks (Spearman 1904), with ties averaged.

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 100.0, 2.0])), 4)
    0.5
    """
    return pearson(ranks(x), ranks(y))
