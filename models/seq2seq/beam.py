"""Floor 7: beam search and sampling for many sources at once, over any model with ``start``, ``step`` and ``rows``.

Beginnings are kept by log p. What is ranked in the end is (Wu et al. 2016, "Google's neural machine translation
system", section 7):

    s(y, x) = log p(y | x) / lp(|y|) + beta sum_s log min(sum_t a_ts, 1)

with |y| the number of symbols, the end included, a_ts the attention of step t to source symbol s, and lp(n) = 1
(none), n (average) or ((5 + n) / 6)^alpha (gnmt).
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import insort
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minigrad.errors import UserError, describe
from minigrad.kernels.cpu.build import Kernel
from minigrad.models.lm.decode import NUMBERS, draw, weights
from minigrad.models.settings import Settings, choice, flag, real, share, whole

LEAST = 1e-10  # of the attention that a source symbol got, where its logarithm is taken


@dataclass(frozen=True)
class Decoding(Settings):
    """How a text is written: searched for, or, with a temperature, drawn."""

    beam: int = whole(5, 1, 10**6, "beginnings kept for each sentence; 1: always the likeliest symbol (greedy)")
    n_best: int = whole(1, 1, 10**6, "outputs for each sentence, at most")
    length_factor: float = real(2.0, 0, 10**6, "symbols written for each source symbol, at most...", closed=True)
    length_offset: int = whole(10, 0, 10**9, "...and so many more, the end included")
    max_length: int = whole(1000, 1, 10**9, "symbols written for any sentence, at most, the end included")
    min_length: int = whole(0, 0, 10**9, "symbols before the end, at least")
    length_penalty: str = choice("gnmt", ("none", "average", "gnmt"), "what log p is divided by to rank outputs")
    alpha: float = real(0.6, 0, 10, "exponent of the length penalty of GNMT", closed=True)
    coverage_penalty: float = real(0.0, 0, np.inf, "beta of GNMT: rank outputs that leave out source symbols behind",
                                   closed=True)  # fmt: skip
    block_ngrams: int = whole(0, 0, 10**6, "write no N symbols in a row twice; 0: off")
    unknown: bool = flag("<UNK> may be written too")
    replace_unknown: bool = flag("write the source word of the largest attention instead of <UNK>")
    temperature: float = real(0.0, 0, np.inf, "draw outputs, 1: as the model says; 0: search for the best", closed=True)
    top_k: int | None = whole(None, 1, 10**9, "draw from the K likeliest symbols only")
    top_p: float | None = share(None, "draw from the fewest symbols that together have this probability (nucleus)")
    seed: int = whole(0, 0, 2**63 - 1, "of what is drawn; a sentence and a seed always give the same")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature:
            if self.n_best > self.beam:
                raise UserError(
                    describe("n_best", str(self.n_best), f"--beam {self.beam} at most", "use a wider --beam")
                )
            if self.top_k or self.top_p:
                name = "top_k" if self.top_k else "top_p"
                raise UserError(describe(name, "no temperature", "one above 0 to draw with", "add --temperature 1"))
        if self.min_length >= self.max_length:
            raise UserError(describe("min_length", str(self.min_length), f"below --max-length {self.max_length}"))

    @property
    def rows(self) -> int:
        """Beginnings of one sentence side by side, at most."""
        return self.n_best if self.temperature else self.beam

    def limits(self, lengths: np.ndarray) -> np.ndarray:
        """Symbols with the end, at most, (B,), for sources of these lengths (B,).

        >>> Decoding(length_factor=1.5, length_offset=2, max_length=10).limits(np.array([1, 4, 20])).tolist()
        [3, 8, 10]
        """
        limits = np.floor(self.length_factor * lengths) + self.length_offset
        return np.clip(limits, self.min_length + 1, self.max_length).astype(np.int64)

    def penalty(self, n: Any) -> Any:
        """lp(n): what the log-probability of n symbols is divided by.

        >>> [float(Decoding(length_penalty=name, alpha=1.0).penalty(7)) for name in ("none", "average", "gnmt")]
        [1.0, 7.0, 2.0]
        """
        if self.length_penalty == "gnmt":
            return ((5 + n) / 6) ** self.alpha
        return np.maximum(n, 1) ** float(self.length_penalty == "average")


class Hypothesis(NamedTuple):
    """An output of a search: what it was ranked by, log p of its symbols, the symbols (T,), attention (T, S) or None,
    and whether its end was reached."""

    score: float
    log_probability: float
    ids: np.ndarray
    weights: np.ndarray | None
    complete: bool


def search(model: Any, source: np.ndarray, lengths: np.ndarray, how: Decoding, *, start: int, end: int,
           unknown: int | None = None) -> list[list[Hypothesis]]:  # fmt: skip
    """The outputs for each source, best first: ``how.n_best`` at most, one at least. source (S, B) or (S, B, P),
    lengths (B,) of 1 at least.

    Each step makes, of all continuations of the beginnings of a sentence, the ``beam`` likeliest the next beginnings;
    those that end there are outputs. A beginning that meets the limit, or that nothing may follow, is an output that
    is not complete and ranks behind all complete ones. A sentence is finished when no beginning can be among its
    ``n_best`` any more: log p only falls, so no output of a beginning has a score above log p / lp(limit). Hence a
    beam as wide as the space finds what an exhaustive search finds, and the first of n best are the same for any n.

    The model has ``start(source, lengths)``, a state of B rows; ``step(ids (N,), state)``, which gives log p (N, V) in
    float64 (a fresh array, which is overwritten), the next state, and the attention (N, S) or None; and
    ``rows(state, rows)``. Of equal scores the shorter one comes first, then that whose beginning did.
    """
    beside = how.n_best if how.temperature else 1
    limits = how.limits(lengths)  # (B,)
    found = [_Found(how, int(n)) for n in lengths]
    floor, ceiling = np.full(len(lengths), -np.inf), how.penalty(limits)  # (B,): what a score must exceed; lp
    generators = [_generator(how, source[:n, b]) for b, n in enumerate(lengths)]
    live = _Live.of(len(lengths), len(source) if how.coverage_penalty else 0, beside)
    state = model.start(source, lengths)
    if beside > 1:
        state = model.rows(state, live.sentence)
    attention: list[np.ndarray] = []  # of each step (N, S)
    last = np.full(len(live.sentence), start)  # (N,)
    for t in itertools.count(1):
        logp, state, weights = model.step(last, state)  # (N, V), (N, S)
        if weights is None:
            _check_attention(how)
        else:
            attention.append(weights)
        _forbid(logp, live.ids, how, end, unknown)
        if how.temperature:
            rows, last = _drawn(logp, live.sentence, how, generators)
            lost = np.delete(np.arange(len(live.sentence)), rows)
        else:
            rows, last = best(logp, live.total, live.sentence, how.beam)
            lost = np.flatnonzero(~np.isin(live.sentence, live.sentence[rows]))
        for r in lost:  # nothing may follow
            found[live.sentence[r]].add(live, r, False)
        if how.coverage_penalty:
            live = live._replace(covered=live.covered + weights)
        live = live.followed(rows, last, logp[rows, last])
        ended = last == end
        going = ~ended & (t < limits[live.sentence])
        for r in np.flatnonzero(~going):
            found[live.sentence[r]].add(live, r, bool(ended[r]))
        if not how.temperature:
            for b in set(live.sentence[ended].tolist()):
                floor[b] = found[b].floor
            likeliest = np.full(len(lengths), -np.inf)
            np.maximum.at(likeliest, live.sentence[going], live.total[going])
            going &= (likeliest / ceiling > floor)[live.sentence]
        if not going.any():
            break
        live, last, rows = live.some(going), last[going], rows[going]
        if not np.array_equal(rows, np.arange(len(logp))):
            state = model.rows(state, rows)
    return [one.outputs(attention) for one in found]


class _Live(NamedTuple):
    """The beginnings of all sentences, those of one behind each other."""

    sentence: np.ndarray  # (N,) whose it is
    total: np.ndarray  # (N,) log p
    ids: np.ndarray  # (N, t) symbols
    path: np.ndarray  # (N, t) the row that it was in each step
    covered: np.ndarray  # (N, S) attention so far; (N, 0) if nobody asks

    @classmethod
    def of(cls, B: int, S: int, beside: int) -> _Live:
        N, none = B * beside, np.zeros((B * beside, 0), np.int64)
        return cls(np.repeat(np.arange(B), beside), np.zeros(N), none, none, np.zeros((N, S)))

    def some(self, rows: np.ndarray) -> _Live:
        return _Live(*(a[rows] for a in self))

    def followed(self, rows: np.ndarray, last: np.ndarray, logp: np.ndarray) -> _Live:
        """Some of them, with a symbol and its log p more."""
        sentence, total, ids, path, covered = self.some(rows)
        return _Live(sentence, total + logp, np.column_stack([ids, last]), np.column_stack([path, rows]), covered)


class _Found:
    """The outputs of a source of S symbols."""

    def __init__(self, how: Decoding, S: int):
        self.how, self.S = how, S
        self.complete: list[tuple] = []  # best first
        self.cut: list[tuple] = []

    @property
    def floor(self) -> float:
        """A score that is not above this one changes nothing."""
        return -self.complete[-1][0] if len(self.complete) == self.how.n_best else -np.inf

    def add(self, live: _Live, r: int, complete: bool) -> None:
        ids, total, how = live.ids[r], float(live.total[r]), self.how
        score = total / float(how.penalty(len(ids)))
        if how.coverage_penalty:
            score += how.coverage_penalty * coverage(live.covered[r, : self.S])
        kept = self.complete if complete else self.cut
        insort(kept, (-score, total, ids.copy(), live.path[r].copy()), key=lambda one: one[0])
        del kept[how.n_best :]

    def outputs(self, attention: list[np.ndarray]) -> list[Hypothesis]:
        found = []
        for kept in (self.complete, self.cut):
            for negative, total, ids, path in kept[: self.how.n_best - len(found)]:
                weights = np.empty((len(ids), self.S), attention[0].dtype) if attention else None
                for t in range(len(ids) if attention else 0):
                    weights[t] = attention[t][path[t], : self.S]
                found.append(Hypothesis(-negative, total, ids, weights, kept is self.complete))
        return found


def coverage(covered: np.ndarray) -> float:
    """sum_s log min(c_s, 1), where c (S,) is the attention that each source symbol got; at least log 1e-10 for each.

    >>> round(coverage(np.array([1.2, 0.5])), 4)
    -0.6931
    """
    return float(np.log(np.clip(covered, LEAST, 1.0)).sum())


def check_vocabulary(v: Any, how: Decoding) -> None:
    """That texts in this vocabulary end, and that there is room for all beginnings of one."""
    if v.end is None:
        raise UserError(describe("decode", "a vocabulary without an end", "one that has it"))
    if how.rows > (most := max(1, NUMBERS // len(v))):
        name = "n_best" if how.temperature else "beam"
        raise UserError(describe(name, str(how.rows), f"{most:,} at most with {len(v):,} symbols to write"))


def _check_attention(how: Decoding) -> None:
    for name in ("coverage_penalty", "replace_unknown"):
        if getattr(how, name):
            raise UserError(describe(name, "a model without attention", "one that has it"))


# ------------------------------------------------------------------------------------------------ what may follow


def _forbid(logp: np.ndarray, ids: np.ndarray, how: Decoding, end: int, unknown: int | None) -> None:
    """-inf for what may not follow ``ids`` (N, t), in ``logp`` (N, V)."""
    t, n = ids.shape[1], how.block_ngrams
    if unknown is not None and not (how.unknown or how.replace_unknown):
        logp[:, unknown] = -np.inf
    if t < how.min_length:
        logp[:, end] = -np.inf
    if 0 < n <= t:
        windows = sliding_window_view(ids, n, axis=1)  # (N, t-n+1, n)
        again = (windows[..., :-1] == ids[:, None, t - n + 1 :]).all(-1)  # the symbols that one is still missing to
        rows, at = np.nonzero(again)
        logp[rows, windows[rows, at, -1]] = -np.inf


def _generator(how: Decoding, source: np.ndarray) -> np.random.Generator | None:
    """Of a source (S, ...) and the seed, so that company changes nothing."""
    if not how.temperature:
        return None
    digest = hashlib.blake2b(source.tobytes(), digest_size=16).digest()  # NumPy takes minutes for a seed of megabytes
    return np.random.default_rng([how.seed, int.from_bytes(digest, "big")])


def _drawn(logp: np.ndarray, sentence: np.ndarray, how: Decoding, generators: list) -> tuple[np.ndarray, np.ndarray]:
    """Rows that something may follow, and a symbol drawn for each of them. logp (N, V), sentence (N,)."""
    largest = logp.max(-1)
    if np.isnan(largest).any():
        raise _not_numbers()
    rows = np.flatnonzero(largest > -np.inf)
    drawn = np.empty(len(rows), np.int64)
    for b in np.unique(sentence[rows]):
        own = sentence[rows] == b
        drawn[own] = draw(weights(logp[rows[own]], how.temperature, how.top_k, how.top_p), generators[b])
    return rows, drawn


def best(logp: np.ndarray, total: np.ndarray, sentence: np.ndarray, beam: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and symbols of the ``beam`` largest finite total + logp of each sentence, the sentences in order, the
    largest first; of equal ones that of the first row, then of the first symbol.

    logp (N, V), total (N,), sentence (N,), rising.

    >>> rows, symbols = best(np.log([[0.5, 0.5], [0.1, 0.9], [0.3, 0.7]]), np.zeros(3), np.array([0, 0, 4]), 2)
    >>> rows.tolist(), symbols.tolist()
    ([1, 0, 2, 2], [1, 0, 1, 0])
    """
    first = np.append(np.flatnonzero(np.diff(sentence, prepend=-1)), len(sentence))  # (B+1,)
    B, V = len(first) - 1, logp.shape[1]
    beam = min(beam, int(np.diff(first).max()) * V)
    rows, symbols, counts = np.empty((B, beam), np.int64), np.empty((B, beam), np.int64), np.empty(B, np.int64)
    _BEST[np.dtype(np.float64)](
        np.ascontiguousarray(logp, np.float64), total, first, rows, symbols, np.empty(beam), counts
    )
    if (counts < 0).any():
        raise _not_numbers()
    kept = np.arange(beam) < counts[:, None]
    return rows[kept], symbols[kept]


def best_kernel(logp, total, first, rows, symbols, kept, counts):
    """Insertion into a short sorted list: nearly all numbers fail the one comparison with its last."""
    K = rows.shape[1]
    for b in range(rows.shape[0]):
        n, least = 0, -np.inf
        for r in range(first[b], first[b + 1]):
            for v in range(logp.shape[1]):
                x = total[r] + logp[r, v]
                if x <= least:
                    continue
                if x != x:
                    n = -1
                    break
                k = min(n, K - 1)
                n = min(n + 1, K)
                while k > 0 and kept[k - 1] < x:
                    kept[k], rows[b, k], symbols[b, k] = kept[k - 1], rows[b, k - 1], symbols[b, k - 1]
                    k -= 1
                kept[k], rows[b, k], symbols[b, k] = x, r, v
                if n == K:
                    least = kept[K - 1]
            if n < 0:
                break
        counts[b] = n


_BEST = Kernel(best_kernel)


def _not_numbers() -> UserError:
    return UserError(describe("decode", "probabilities that are NaN", "numbers", "the training of the model diverged"))
