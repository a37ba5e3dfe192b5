"""A model that is a table: probabilities that depend on the whole source and on all that was written, and what an
exhaustive search finds in it; and small real models with batches for them."""

import itertools
from contextlib import nullcontext

import numpy as np

from minigrad.models import CharVocabulary
from minigrad.models.seq2seq.beam import Hypothesis
from minigrad.models.seq2seq.config import Seq2SeqConfig
from minigrad.models.seq2seq.model import Seq2Seq

V = CharVocabulary.of("abcdefg\n")
SMALL = Seq2SeqConfig(hidden=6, embedding=4, dropout=0.0, positions=4)


class Letters:
    """A vocabulary of letters: ``unknown`` and ``end`` are "?" and ".", if they are among them."""

    kind = "letters"

    def __init__(self, letters):
        self.letters = letters
        self.start = self.end = letters.index(".") if "." in letters else None
        self.unknown = letters.index("?") if "?" in letters else None

    def __len__(self):
        return len(self.letters)

    def encode(self, line, where="text"):
        return np.array([self.letters.find(c) if c in self.letters else self.unknown for c in line], np.int32)

    def decode(self, ids):
        return "".join(self.letters[i] for i in ids)

    def split(self, line):
        return list(line)

    def join(self, tokens):
        return "".join(tokens)

    def token(self, i):
        return self.letters[i]


class Table:
    """The state of a row is what it has read: source and symbols; so a row that is forgotten or mixed up shows."""

    def __init__(self, seed=0, letters=".ab", attends=True, sharp=1.0):
        self.source, self.target = Letters("abc"), Letters(letters)
        self.seed, self.attends, self.sharp, self.asked = seed, attends, sharp, []
        self.known = {}

    def inference(self):
        return nullcontext()

    def row(self, source, written):
        """log p (V,) and attention (S,)."""
        if (source, written) not in self.known:
            rng = np.random.default_rng([self.seed, len(source), *source, *(i + 1 for i in written)])
            p = rng.dirichlet(np.full(len(self.target), 1 / self.sharp)) + 1e-9
            weights = rng.dirichlet(np.full(len(source), 0.5)).astype(np.float32)
            self.known[source, written] = np.log(p / p.sum()), weights
        return self.known[source, written]

    def start(self, source, lengths):
        self.S = len(source)
        return [(tuple(ids[:n].tolist()), None) for ids, n in zip(source.T, lengths)]

    def step(self, ids, state):
        self.asked.append(len(ids))
        assert len(ids) == len(state)
        new = []
        for i, (source, written) in zip(ids.tolist(), state):
            assert written is not None or i == self.target.start
            new.append((source, () if written is None else (*written, i)))
        found = [self.row(*one) for one in new]
        weights = np.zeros((len(ids), self.S), np.float32)
        for r, (_, w) in enumerate(found):
            weights[r, : len(w)] = w
        return np.stack([logp for logp, _ in found]), new, weights if self.attends else None

    def rows(self, state, rows):
        return [state[r] for r in rows]

    def nll(self, source, lengths, target):
        found = np.zeros(target.shape, np.float32)
        for b, n in enumerate(lengths):
            x, y = tuple(source[:n, b].tolist()), [i for i in target[:, b].tolist() if i != -100]
            found[: len(y), b] = [-self.row(x, tuple(y[:t]))[0][i] for t, i in enumerate(y)]
        return found


def exhaustive(model, source, how):
    """All outputs that the settings allow, ranked, by the definition."""
    v, limit = model.target, int(how.limits(np.array([len(source)]))[0])
    source = tuple(int(i) for i in source)
    others = [i for i in range(len(v)) if i != v.end and (i != v.unknown or how.unknown or how.replace_unknown)]
    found = []
    for n in range(limit + 1):
        for written in itertools.product(others, repeat=n):
            if repeats(written, how.block_ngrams):
                continue
            if n == limit:
                found.append(hypothesis(model, source, written, how))
            elif n >= how.min_length:
                found.append(hypothesis(model, source, (*written, v.end), how))
    return sorted(found, key=lambda one: (not one.complete, -one.score))


def repeats(written, n):
    grams = [written[k : k + n] for k in range(len(written) - n + 1)] if n else []
    return len(set(grams)) < len(grams)


def hypothesis(model, source, written, how):
    found = [model.row(source, written[:t]) for t in range(len(written))]
    total = sum(logp[i] for (logp, _), i in zip(found, written))
    weights = np.array([w for _, w in found])
    n = len(written)
    score = total / {"none": 1, "average": n, "gnmt": ((5 + n) / 6) ** how.alpha}[how.length_penalty]
    if how.coverage_penalty:
        score += how.coverage_penalty * sum(np.log(min(max(c, 1e-10), 1)) for c in weights.astype(float).sum(0))
    return Hypothesis(score, total, np.array(written), weights, bool(written) and written[-1] == model.target.end)


def wide(config: Seq2SeqConfig) -> Seq2Seq:
    """A model in float64, of no small numbers."""
    model = Seq2Seq(config, V, V, generator=3)
    rng = np.random.default_rng(5)
    for p in model.parameters():
        p.data = rng.normal(0, 0.7, p.shape)
    return model


def batch(sizes: list[tuple[int, int]], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source (S, B), lengths (B,) and target (T, B) for sizes (S, T) of each."""
    rng, n = np.random.default_rng(seed), len(sizes)
    S, T = (max(size) for size in zip(*sizes))
    source, target = np.zeros((S, n), int), np.full((T, n), -100)
    for b, (s, t) in enumerate(sizes):
        source[:s, b] = rng.integers(1, len(V), s)
        target[:t, b] = [*rng.integers(1, len(V), t - 1), V.end]
    return source, np.array([s for s, _ in sizes]), target
