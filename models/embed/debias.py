"""Floor 7: take a bias out of vectors of words: the hard debiasing of Bolukbasi et al. (2016)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.embed.vectors import WordVectors

GENDER = (
    ("she", "he"), ("her", "his"), ("woman", "man"), ("Mary", "John"), ("herself", "himself"), ("daughter", "son"),
    ("mother", "father"), ("gal", "guy"), ("girl", "boy"), ("female", "male"),
)  # fmt: skip  # the pairs of the paper
TINY = 1e-6  # of a vector of length 1: what is left by rounding


def _rows(vectors: WordVectors, words: Iterable[str]) -> np.ndarray:
    """Rows of length 1 (N, D), float64."""
    e = vectors.array[[vectors.id(word) for word in words]].astype(np.float64)
    lengths = np.linalg.norm(e, axis=1, keepdims=True)
    return e / np.where(lengths > 0, lengths, 1)


def bias_directions(vectors: WordVectors, pairs: Sequence[Sequence[str]], k: int = 1) -> np.ndarray:
    """B (k, D), orthonormal: the first k principal components of e_w - mean over its set, the vectors of length 1.

    pairs: sets of words that differ in what shall go, as ("she", "he"); the first component points to their first
    words. Bolukbasi et al. (2016), step 1.

    >>> v = WordVectors(["she", "he", "nurse"], [[1, 1], [-1, 1], [0.6, 0.8]])
    >>> bias_directions(v, [("she", "he")]).round(6).tolist()
    [[1.0, 0.0]]
    """
    where = "bias_directions"
    if not pairs or any(len(set(words)) < 2 for words in pairs):
        raise UserError(describe(where, "no pair" if not pairs else "a set of one word", "pairs of different words"))
    parts, signs = [], []
    for words in pairs:
        e = _rows(vectors, words)
        parts.append((e - e.mean(0)) / np.sqrt(len(e)))
        signs.append(e[0] - e[-1])
    _, lengths, directions = np.linalg.svd(np.concatenate(parts), full_matrices=False)
    found = int((lengths > TINY).sum())
    if not 1 <= k <= found:
        got = f"{k} directions of pairs that have {found}" if found else "pairs of equal vectors"
        raise UserError(describe(where, got, "directions that the pairs have"))
    b = directions[:k]
    if np.sum(signs, 0) @ b[0] < 0:
        b[0] = -b[0]
    return b


def bias(vectors: WordVectors, words: Sequence[str], directions: np.ndarray) -> np.ndarray:
    """|e_B| for each word, (N,): how long the part of its vector (of length 1) in the directions B (k, D) is; with one
    direction it has a sign, and is the cosine with it.

    >>> v = WordVectors(["nurse", "table"], [[3, 4], [0, 2]])
    >>> bias(v, ["nurse", "table"], np.array([[1.0, 0.0]])).round(6).tolist()
    [0.6, 0.0]
    """
    parts = _rows(vectors, words) @ directions.T  # (N, k)
    return parts[:, 0] if len(directions) == 1 else np.linalg.norm(parts, axis=1)


def neutralise(e: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(e - e_B) / |e - e_B| for rows e (N, D): nothing is left in the directions B (k, D).

    >>> neutralise(np.array([[0.6, 0.8]]), np.array([[1.0, 0.0]])).tolist()
    [[0.0, 1.0]]
    """
    rest = e - (e @ directions.T) @ directions
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    if (lengths < TINY).any():
        got = f"a vector that is nothing but bias (row {int(lengths.argmin())})"
        raise UserError(describe("neutralise", got, "one with another part", "leave that word out"))
    return rest / lengths


def equalise(e: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The rows e (N, D) of a set, of length 1, made equal but for the directions B (k, D), and of length 1 again:

    mu = mean(e),  nu = mu - mu_B,  e' = nu + sqrt(1 - |nu|^2) (e_B - mu_B) / |e_B - mu_B|

    so that each word without bias is equally far from all of them.

    >>> equalise(np.array([[0.6, 0.8], [0.0, 1.0]]), np.array([[1.0, 0.0]])).round(4).tolist()
    [[0.4359, 0.9], [-0.4359, 0.9]]
    """
    mean = e.mean(0)
    nu = mean - (mean @ directions.T) @ directions
    parts = ((e - mean) @ directions.T) @ directions  # (N, D)
    lengths = np.linalg.norm(parts, axis=1, keepdims=True)
    if (lengths < TINY).any():
        raise UserError(describe("equalise", "words that do not differ in the bias", "a set of words that do"))
    return nu + np.sqrt(max(1 - nu @ nu, 0.0)) * parts / lengths


def debias(vectors: WordVectors, directions: np.ndarray, neutral: Sequence[str],
           sets: Sequence[Sequence[str]] = ()) -> WordVectors:  # fmt: skip
    """Hard debiasing: ``neutral`` words lose their part in the directions B (k, D), the words of each of ``sets``
    differ in nothing else. All vectors have length 1 then; n-grams for unseen words are not taken over, since they
    would bring the bias back.

    Bolukbasi, Chang, Zou, Saligrama and Kalai (2016), Man is to computer programmer as woman is to homemaker?

    >>> v = WordVectors(["she", "he", "nurse"], [[2, 1], [-1, 1], [0.6, 0.8]])
    >>> fair = debias(v, bias_directions(v, [("she", "he")]), ["nurse"], [("she", "he")])
    >>> round(fair.similarity("nurse", "she") - fair.similarity("nurse", "he"), 6) + 0
    0.0
    """
    array = vectors.unit.copy()
    both = {*neutral} & {word for words in sets for word in words}
    if both:
        got = f"{min(both)!r} among the neutral words and in a set to equalise"
        raise UserError(describe("debias", got, "each word in one of them"))
    if neutral:
        array[[vectors.id(word) for word in neutral]] = neutralise(_rows(vectors, neutral), directions)
    for words in sets:
        array[[vectors.id(word) for word in words]] = equalise(_rows(vectors, words), directions)
    return WordVectors(vectors.words, array, vectors.counts)
