"""Floor 7: n-grams with interpolated modified Kneser-Ney smoothing: what a network must beat.

Chen and Goodman (1999), "An empirical study of smoothing techniques for language modeling", section 3:

p_k(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + gamma(h) p_{k-1}(w | h'),    p_0(w) = 1/V

h has k-1 symbols, h' is h without its first, c(h) = sum_w c(h w), gamma(h) is what the discounts took. Of the highest
order, c counts occurrences; of the others, the different symbols that stand before h w. With n_i k-grams of count i,

Y = n_1 / (n_1 + 2 n_2),    D(i) = i - (i + 1) Y n_{i+1} / n_i  for i = 1, 2 and 3 (and all above)
"""

from __future__ import annotations

import numpy as np

from minigrad.errors import UserError, describe

NO_ESTIMATE = (0.5, 1.0, 1.5)  # discounts of a corpus too small for the formula; those of KenLM (Heafield 2013)
MAX_ORDER = 20


class KneserNey:
    """An n-gram model of the symbols 0 .. symbols-1, counted in the stream ``ids`` (N,), with n = ``order``.

    A k-gram is known by its place in a sorted table of numbers: place of its first k-1 symbols x V + its last symbol.

    >>> model = KneserNey(np.array([0, 1, 2, 0, 1, 2, 0, 1]), symbols=3, order=2)
    >>> model.probability(np.array([[1], [1], [1]]), np.array([0, 1, 2])).round(3).tolist()
    [0.167, 0.167, 0.667]
    """

    def __init__(self, ids: np.ndarray, symbols: int, order: int = 5):
        if not 1 <= order <= MAX_ORDER:
            raise UserError(describe("order", str(order), f"a length of n-grams from 1 to {MAX_ORDER}"))
        ids = np.asarray(ids, np.int64)
        if len(ids) < order:
            raise UserError(describe("n-grams", f"a text of {len(ids)} symbols", f"{order} at least"))
        self.order, self.symbols = order, symbols
        self.keys = [np.arange(symbols)]  # of order k at [k - 1]: (M_k,), rising; M_1 = V
        self.share: list[np.ndarray] = []  # of order k at [k - 1]: (M_k,), max(c - D, 0) / c(h)
        self.left: list[np.ndarray] = []  # of order k at [k - 1]: (M_{k-1},), gamma(h); M_0 = 1
        place = ids  # (N - k + 1,): of the k-gram that begins at each position
        for k in range(2, order + 1):
            keys, first, longer = np.unique(place[:-1] * symbols + ids[k - 1 :], return_index=True, return_inverse=True)
            before = np.bincount(place[first + 1], minlength=len(self.keys[-1]))  # different k-grams end in each
            self._add(before)
            self.keys.append(keys)
            place = longer
        self._add(np.bincount(place, minlength=len(self.keys[-1])))

    def _add(self, counts: np.ndarray) -> None:
        """Another order: ``counts`` (M_k,) beside its keys."""
        k = len(self.share) + 1
        context = self.keys[-1] // self.symbols if k > 1 else np.zeros(self.symbols, np.int64)  # (M_k,)
        contexts = len(self.keys[-2]) if k > 1 else 1
        taken = discounts(counts)[np.minimum(counts, 3)]  # (M_k,)
        total = np.bincount(context, counts, contexts)
        known = np.maximum(total, 1)
        self.share.append((counts - taken) / known[context])
        self.left.append(np.where(total > 0, np.bincount(context, taken, contexts) / known, 1.0))

    # ---------------------------------------------------------------- its probabilities

    def probability(self, contexts: np.ndarray, following: np.ndarray) -> np.ndarray:
        """p(following | contexts) (N,) of following (N,), after the last symbols of contexts (N, any number).

        >>> KneserNey(np.array([0, 1, 0, 1, 1]), symbols=2, order=3).probability(np.array([[1, 0]]), [1]) > 0.5
        array([ True])
        """
        contexts, following = np.asarray(contexts, np.int64), np.asarray(following, np.int64)
        p = np.full(len(following), 1 / self.symbols)
        for k in range(1, min(self.order, contexts.shape[1] + 1) + 1):
            place = np.zeros(len(following), np.int64) if k == 1 else contexts[:, -(k - 1)]
            for j in range(2, k):
                place = self._find(j, place, contexts[:, j - k])
            p = self._mix(k, p, place, following if k == 1 else self._find(k, place, following))
        return p

    def nll(self, ids: np.ndarray) -> np.ndarray:
        """-log p(ids[t] | ids[0] .. ids[t-1]) in nats for t = 1 .. N-1, (N-1,)."""
        ids = np.asarray(ids, np.int64)
        p = self._mix(1, np.full(len(ids), 1 / self.symbols), np.zeros(len(ids), np.int64), ids)
        place = ids
        for k in range(2, min(self.order, len(ids)) + 1):
            longer = self._find(k, place[:-1], ids[k - 1 :])
            p = np.concatenate([p[: k - 1], self._mix(k, p[k - 1 :], place[:-1], longer)])
            place = longer
        return -np.log(p[1:])

    def _find(self, k: int, place: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Places of k-grams, from those of their first k-1 symbols and their last; -1 for one that was never seen."""
        keys, wanted = self.keys[k - 1], place * self.symbols + following
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((place >= 0) & (keys[at] == wanted), at, -1)

    def _mix(self, k: int, p: np.ndarray, context: np.ndarray, place: np.ndarray) -> np.ndarray:
        """p_k from p_{k-1}; where the context (or the k-gram) has the place -1, it was never seen."""
        share = np.where(place >= 0, self.share[k - 1][place], 0.0)
        return share + np.where(context >= 0, self.left[k - 1][context], 1.0) * p


def discounts(counts: np.ndarray) -> np.ndarray:
    """D(0) .. D(3) from the counts of all k-grams of an order.

    >>> discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4])).round(3).tolist()
    [0.0, 0.5, 1.25, 1.0]
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    if not n[1:5].all():
        return np.array([0.0, *NO_ESTIMATE])
    y = n[1] / (n[1] + 2 * n[2])
    found = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
    return np.array([0.0, *np.clip(found, 0, (1, 2, 3))])


def fit_weight(a: np.ndarray, b: np.ndarray, steps: int = 200) -> float:
    """The share l of the first model for which l exp(-a) + (1-l) exp(-b) predicts best; nll a and b (N,) in nats.

    Expectation and maximisation: l <- mean of l exp(-a) / (l exp(-a) + (1-l) exp(-b)), which never gets worse.

    >>> fit_weight(np.full(9, 1.0), np.full(9, 3.0)) > 0.99
    True
    """
    ratio, share = np.exp(np.clip(a - b, -700, 700)), 0.5  # ratio: p_b / p_a
    for _ in range(steps):
        before, share = share, float(np.mean(share / (share + (1 - share) * ratio)))
        if abs(share - before) < 1e-7:
            break
    return share


def mixed(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """nll of the mixture share exp(-a) + (1-share) exp(-b), (N,).

    >>> mixed(np.array([1.0]), np.array([9.0]), 1.0).tolist()
    [1.0]
    """
    with np.errstate(divide="ignore"):
        return -np.logaddexp(np.log(share) - a, np.log1p(-share) - b)
