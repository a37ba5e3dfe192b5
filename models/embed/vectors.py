"""Floor 7: vectors of words: look-up, nearest words, analogies, and a layer of a model that begins with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from minigrad import nn
from minigrad.errors import UserError, describe
from minigrad.models.embed.nearest import distances, largest, products
from minigrad.models.vocabulary import WordVocabulary
from minigrad.nn.module import Seed, as_generator

METHODS = ("add", "mul", "euclidean")
EPSILON = 1e-6  # keeps the quotient of 3CosMul finite
SPACES = " \t\n\v\f\r"  # what parts words in files of vectors; Unicode knows more, and words of those files hold it

Term = str | np.ndarray


class WordVectors:
    """V words, each with a vector of D numbers: e_w = E^T o_w, the row w of E (V, D).

    words:     each once, not empty, without white space; the most frequent first, if they are counted
    array:     E (V, D); float32 in C order is taken as it is, not copied
    counts:    (V,) how often each word was seen, if that is known
    subwords:  gives a vector to a word that is not there, from its n-grams (``vector(word)``), if there are any

    >>> v = WordVectors(["man", "woman", "king", "queen"], [[1, 0], [-1, 0], [1, 2], [-1, 2]])
    >>> v["king"].tolist(), v.id("queen"), "apple" in v
    ([1.0, 2.0], 3, False)
    >>> v.most_similar(["king", "woman"], ["man"], topn=1, method="euclidean")
    [('queen', 0.0)]
    """

    def __init__(self, words: Iterable[str], array: Any, counts: Any = None, subwords: Any = None):
        self.words = tuple(words)
        self._ids = dict(zip(self.words, range(len(self.words))))
        self._check_words()
        self.array = _table(array, self.words)
        self.counts = None if counts is None else _counts(counts, len(self.words))
        self.subwords = subwords
        self.norms = distances(self.array, np.zeros(self.dim, np.float32))  # (V,)
        self._check_numbers()

    def _check_words(self) -> None:
        where, words = "vectors", self.words
        if not words:
            raise UserError(describe(where, "no words", "one at least"))
        for i, word in enumerate(words):
            if not isinstance(word, str):
                raise UserError(describe(where, f"{word!r} as word {i:,}", "a string"))
        if len(self._ids) < len(words):
            first = next((i, word) for i, word in enumerate(words) if self._ids[word] != i)
            raise UserError(
                describe(where, f"the word {first[1]!r} twice (the first is word {first[0]:,})", "each once")
            )
        if "" in self._ids or not set(SPACES).isdisjoint("".join(words)):
            i, word = next((i, w) for i, w in enumerate(words) if not w or not set(SPACES).isdisjoint(w))
            raise UserError(describe(where, f"{word!r} as word {i:,}", "words without white space, not empty"))

    def _check_numbers(self) -> None:
        if np.isfinite(self.norms).all():
            return
        i = int(np.isfinite(self.norms).argmin())
        got = "numbers whose squares overflow" if np.isfinite(self.array[i]).all() else "NaN or Inf"
        raise UserError(describe("vectors", f"{got} in the vector of {self.words[i]!r} (word {i:,})", "finite numbers"))

    def __len__(self) -> int:
        return len(self.words)

    @property
    def dim(self) -> int:
        return self.array.shape[1]

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __repr__(self) -> str:
        return f"WordVectors({len(self):,} words, {self.dim} numbers each)"

    def id(self, word: str) -> int:
        """The row of a word; UserError naming similar ones if it is not there."""
        if not isinstance(word, str):
            raise UserError(describe("vectors", f"{word!r}", "a word; rows are those of ``array``"))
        if word not in self._ids:
            near = self.near(word)
            do = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UserError(
                describe("vectors", f"the word {word!r}", f"one of the {len(self):,} words with a vector", do)
            )
        return self._ids[word]

    def __getitem__(self, word: str | Sequence[str]) -> np.ndarray:
        """The vector (D,) of a word, or those (N, D) of several; one that is not there has one from its n-grams, if
        there are ``subwords``."""
        if not isinstance(word, str) and np.iterable(word):
            return np.stack([self[one] for one in word]) if len(word) else np.empty((0, self.dim), np.float32)
        if self.subwords is not None and isinstance(word, str) and word not in self._ids:
            return np.asarray(self.subwords.vector(word), np.float32)
        return self.array[self.id(word)]

    def near(self, word: str, most: int = 3) -> list[str]:
        """Words that are there and differ from ``word`` by their capitals or by one letter, the most frequent first."""
        letters = {*"abcdefghijklmnopqrstuvwxyz", *word}
        halves = [(word[:i], word[i:]) for i in range(len(word) + 1)] if len(word) < 40 else []
        found = {word.lower(), word.upper(), word.capitalize(), word.title()}
        found |= {a + b[1:] for a, b in halves} | {a + b[1] + b[0] + b[2:] for a, b in halves if len(b) > 1}
        found |= {a + c + rest for a, b in halves for c in letters for rest in (b, b[1:])}
        return [self.words[i] for i in sorted(self._ids[w] for w in found - {word} if w in self._ids)[:most]]

    @cached_property
    def unit(self) -> np.ndarray:
        """Rows of length 1 (V, D), made when they are first asked for; a row of zeros stays."""
        return self.array * self.inverse_norms[:, None]

    @cached_property
    def inverse_norms(self) -> np.ndarray:
        """1 / |e_w| (V,), and 0 for a row of zeros, so that its cosine with everything is 0."""
        return np.divide(1, self.norms, out=np.zeros_like(self.norms), where=self.norms > 0)

    # ---------------------------------------------------------------- nearest words

    def similarity(self, a: str, b: str) -> float:
        """The cosine of the angle between the vectors of two words."""
        return float(_normal(self[a]) @ _normal(self[b]))

    def most_similar(self, positive: Term | Sequence[Term], negative: Term | Sequence[Term] = (), topn: int = 10,
                     method: str = "add", among: int | None = None) -> list[tuple[str, float]]:  # fmt: skip
        """The words nearest to what ``positive`` words have and ``negative`` ones have not, best first, each with its
        score: king - man + woman is ``most_similar(["king", "woman"], ["man"])``.

        u is e of length 1, p a positive and n a negative word. Each word of the vocabulary is looked at.
        "add":        3CosAdd, cos(x, sum u_p - sum u_n)
        "mul":        3CosMul, prod (1 + cos(x, p)) / 2 / (prod (1 + cos(x, n)) / 2 + 1e-6)
                      (both: Levy and Goldberg 2014)
        "euclidean":  the distance |e_x - (sum e_p - sum e_n)| between the vectors as they are; the smallest is best
        topn:         how many words; those that were given are left out, and of equals the earlier one comes first
        among:        only the first so many words are answers
        A term may be a vector (D,) instead of a word.
        """
        plus, minus = _terms(positive), _terms(negative)
        self._check_question(plus, minus, topn, method, among)
        p, n = (np.array([self._vector(t) for t in terms]).reshape(-1, self.dim) for terms in (plus, minus))
        rows = len(self) if among is None else min(among, len(self))
        scores = self._scores(p, n, method, rows)
        for term in plus + minus:
            if isinstance(term, str) and self._ids.get(term, rows) < rows:
                scores[self._ids[term]] = -np.inf
        sign = -1.0 if method == "euclidean" else 1.0
        return [(self.words[i], sign * float(scores[i])) for i in largest(scores, topn)]

    def _scores(self, p: np.ndarray, n: np.ndarray, method: str, rows: int) -> np.ndarray:
        """(rows,), the larger the better."""
        table, length = self.array[:rows], self.inverse_norms[:rows]
        if method == "euclidean":
            return -distances(table, (p.sum(0) - n.sum(0)).astype(np.float32))
        units = np.stack([_normal(e) for e in (*p, *n)])  # (P + N, D)
        if method == "add":
            target = _normal(units[: len(p)].sum(0) - units[len(p) :].sum(0))
            if not target.any():
                got = "words whose vectors add up to nothing"
                raise UserError(describe("most_similar", got, "a sum with a direction", "ask for other words"))
            return products(table, target[None].astype(np.float32))[:, 0] * length
        cosines = products(table, units.astype(np.float32)) * length[:, None]
        shares = (1 + np.clip(cosines, -1, 1)) / 2  # (rows, P + N)
        return shares[:, : len(p)].prod(1) / (shares[:, len(p) :].prod(1) + np.float32(EPSILON))

    def _vector(self, term: Term) -> np.ndarray:
        """(D,) float64."""
        if isinstance(term, str):
            return self[term].astype(np.float64)
        vector = np.asarray(term, np.float64)
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            got = f"a vector of shape {vector.shape}" if vector.shape != (self.dim,) else "a vector with NaN or Inf"
            raise UserError(describe("most_similar", got, f"words, or {self.dim} finite numbers"))
        return vector

    def _check_question(self, plus: Sequence, minus: Sequence, topn: int, method: str, among: int | None) -> None:
        where = "most_similar"
        if method not in METHODS:
            raise UserError(describe(where, f"method {method!r}", f"one of {', '.join(METHODS)}"))
        if not plus and not minus:
            raise UserError(describe(where, "no words", "one at least"))
        for name, number in (("topn", topn), ("among", among)):
            if number is not None and number < 1:
                raise UserError(describe(where, f"{name} {number}", "1 at least"))

    # ---------------------------------------------------------------- a layer

    def embedding(self, words: Sequence[str] | WordVocabulary, freeze: bool = False,
                  generator: Seed = None) -> tuple[nn.Embedding, Found]:  # fmt: skip
        """A layer with one row for each of ``words``, and a report of how many have a vector here.

        A word is looked for as it is, then in small letters, then by its n-grams if there are ``subwords``. The row of
        one that is not found is drawn from U(-1 / 2D, 1 / 2D), as word2vec begins. ``freeze``: the layer does not
        learn. Of a WordVocabulary <UNK> and <EOS> are drawn too, and not counted.

        >>> v = WordVectors(["the", "cat"], [[1, 0], [0, 1]])
        >>> layer, found = v.embedding(["The", "cat", "sat"], generator=0)
        >>> layer([0, 1]).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        >>> print(found)
        2 of 3 words have a vector (66.7%): 1 as they are, 1 in small letters; 1 not found: sat
        """
        special = 2 if isinstance(words, WordVocabulary) else 0
        names = words.words if isinstance(words, WordVocabulary) else tuple(words)
        if isinstance(words, str) or not names:
            raise UserError(describe("embedding", repr(words), "a sequence of words, one at least"))
        exact = np.array([self._ids.get(w, -1) for w in names])
        exact[:special] = -1
        lower = np.array([-1 if i >= 0 else self._ids.get(w.lower(), -1) for i, w in zip(exact, names)])
        lower[:special] = -1
        rows = np.maximum(exact, lower)
        missing = [i for i in np.flatnonzero(rows < 0).tolist() if i >= special]
        bound = 0.5 / self.dim
        weight = as_generator(generator).uniform(-bound, bound, (len(names), self.dim)).astype(np.float32)
        weight[rows >= 0] = self.array[rows[rows >= 0]]
        made = missing if self.subwords is not None else []
        for i in made:
            weight[i] = self.subwords.vector(names[i])
        absent = () if made else tuple(names[i] for i in missing)
        found = Found(len(names) - special, int((exact >= 0).sum()), int((lower >= 0).sum()), len(made), absent)
        return nn.Embedding.from_pretrained(weight, freeze=freeze), found


class Found(NamedTuple):
    """Of how many words a vector was found, as they are, in small letters, or made from n-grams; those without."""

    total: int
    exact: int
    lower: int
    subwords: int
    missing: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of the words, those with a vector."""
        return 1 - len(self.missing) / max(self.total, 1)

    def __str__(self) -> str:
        ways = ((self.exact, "as they are"), (self.lower, "in small letters"), (self.subwords, "from their n-grams"))
        found = ", ".join(f"{n:,} {how}" for n, how in ways if n)
        text = f"{self.total - len(self.missing):,} of {self.total:,} words have a vector ({self.share:.1%})"
        text += f": {found}" if found else ""
        if self.missing:
            shown = ", ".join(self.missing[:10]) + (", ..." if len(self.missing) > 10 else "")
            text += f"; {len(self.missing):,} not found: {shown}"
        return text


def _terms(terms: Term | Sequence[Term]) -> list[Term]:
    return [terms] if isinstance(terms, str) or (isinstance(terms, np.ndarray) and terms.ndim == 1) else list(terms)


def _normal(e: np.ndarray) -> np.ndarray:
    """e / |e| in float64; zeros stay."""
    e = e.astype(np.float64)
    length = np.sqrt(e @ e)
    return e / length if length > 0 else e


def _table(array: Any, words: tuple[str, ...]) -> np.ndarray:
    """(V, D) float32."""
    expected = f"{len(words):,} rows of numbers, one a word"
    try:
        with np.errstate(over="ignore"):  # too large for float32: it is named as not finite
            table = np.ascontiguousarray(array, np.float32)
    except (TypeError, ValueError):
        raise UserError(describe("vectors", "rows of different lengths, or no numbers", expected)) from None
    if np.ndim(array) != 2 or len(table) != len(words) or not table.shape[1]:
        raise UserError(describe("vectors", f"an array of shape {np.shape(array)}", expected))
    return table


def _counts(counts: Any, n: int) -> np.ndarray:
    found = np.asarray(counts)
    if found.shape != (n,) or found.dtype.kind not in "iu":
        got = f"counts of shape {found.shape} and {found.dtype}"
        raise UserError(describe("vectors", got, f"{n:,} whole numbers, one a word"))
    return found.astype(np.int64, copy=False)
