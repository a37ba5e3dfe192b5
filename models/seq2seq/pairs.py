"""Floor 7: pairs of lines: read from files, split so that no sentence is on both sides, and put into batches.

Held-out pairs are chosen by a hash of the target: one sentence with several translations is held out with all of them,
and what is held out stays so when lines are added, moved or swapped between files. Case, marks and spaces do not count
for the hash ("Go!" goes with "go."). Where the source of a held-out pair has other targets, those pairs are left out of
training: no source and no target of one part occurs in another.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.settings import Settings, flag, real, whole
from minigrad.models.text import read_text
from minigrad.models.vocabulary import Vocabulary

# ---------------------------------------------------------------- pairs of lines


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Sources and targets, line by line, and how many pairs were left out on the way, by reason.

    >>> corpus = Corpus("three", ["a b", "a", "a"], ["A B", "A", "A"])
    >>> len(corpus.unique()), corpus.at_most(1).left_out
    (2, {'longer than 1 word': 1})
    """

    name: str
    sources: Sequence[str]
    targets: Sequence[str]
    left_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.targets):
            got = f"{len(self.sources):,} sources and {len(self.targets):,} targets"
            raise UserError(describe(f"pairs {self.name}", got, "as many of both"))

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.sources, self.targets)

    def fingerprint(self) -> dict[str, Any]:
        """What tells these pairs from others, for a checkpoint."""
        return {"name": self.name, "pairs": len(self), "sha256": self._digest}

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for source, target in self:
            digest.update(f"{source}\t{target}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def take(self, rows: Iterable[int], why: str = "") -> Corpus:
        """Some of the pairs; the others are counted as left out for a reason, if one is given."""
        rows = list(rows)
        left_out = dict(self.left_out)
        if why and len(rows) < len(self):
            left_out[why] = left_out.get(why, 0) + len(self) - len(rows)
        return Corpus(self.name, [self.sources[i] for i in rows], [self.targets[i] for i in rows], left_out)

    def at_most(self, longest: int) -> Corpus:
        """Those of which neither side has more words: what stands between spaces and has a letter or a digit."""
        rows = (i for i, pair in enumerate(self) if max(map(words, pair)) <= longest)
        return self.take(rows, f"longer than {longest:,} word{'s' * (longest > 1)}")

    def unique(self) -> Corpus:
        """Without pairs that came before."""
        first: dict[tuple[str, str], int] = {}
        for i, pair in enumerate(self):
            first.setdefault(pair, i)
        return self.take(first.values(), "repeated")

    def limit(self, most: int) -> Corpus:
        """So many of them, in their order, chosen by a hash: a smaller set is a part of each larger one."""
        order = sorted(range(len(self)), key=lambda i: _hash(f"limit\t{self.sources[i]}\t{self.targets[i]}"))
        return self.take(sorted(order[:most]), "beyond the limit")


def words(line: str) -> int:
    """How many there are, by spaces; marks that stand alone do not count.

    >>> words("Tu viens ? - Oui, tout de suite !")
    6
    """
    return sum(piece.isalnum() or any(map(str.isalnum, piece)) for piece in line.split())


def _hash(text: str) -> float:
    """A number in [0, 1), the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


# ---------------------------------------------------------------- files


def read_pairs(path: str | os.PathLike, *, swap: bool = False, skip_bad: bool = False) -> Corpus:
    """A file with source and target in each line and a tab between them; more columns are not read.

    Empty lines at the end are no pairs. Any other line without two sides is an error that names it and counts them;
    with ``skip_bad`` they are left out and counted.

    swap:  the second column is the source
    """
    lines = _lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    rows = (line.split("\t", 2)[:2] for line in lines)
    return _corpus(Path(path).name, f"pairs {path}", rows, swap, skip_bad)


def read_parallel(source: str | os.PathLike, target: str | os.PathLike, *, swap: bool = False,
                  skip_bad: bool = False) -> Corpus:  # fmt: skip
    """Two files of as many lines, each line of the one with that of the other; else as ``read_pairs``."""
    a, b = _lines(source), _lines(target)
    where = f"pairs {source} and {target}"
    if len(a) != len(b):
        for lines in (a, b):
            while lines and not lines[-1].strip():
                lines.pop()
        if len(a) != len(b):
            raise UserError(describe(where, f"{len(a):,} and {len(b):,} lines", "as many in both"))
    while a and not (a[-1].strip() or b[-1].strip()):
        a.pop(), b.pop()
    return _corpus(f"{Path(source).name} and {Path(target).name}", where, zip(a, b), swap, skip_bad)


def _lines(path: str | os.PathLike) -> list[str]:
    return read_text(path).content.removesuffix("\n").split("\n")


def _corpus(name: str, where: str, rows: Iterable[Sequence[str]], swap: bool, skip_bad: bool) -> Corpus:
    sides: tuple[list[str], list[str]] = ([], [])
    first, bad = "", 0
    for number, row in enumerate(rows, 1):
        row = [side.strip() for side in row]
        if len(row) == 2 and all(row):
            for side, line in zip(sides, row):
                side.append(line)
            continue
        bad += 1
        if not first:
            side = "second" if row[0] else "first"
            problem = "one column" if len(row) < 2 else f"nothing in the {side} column"
            first = f"line {number:,} with {problem if any(row) else 'nothing'}"
    expected = "a source and a target in each line"
    if bad and not skip_bad:
        got = f"{first}, and {bad - 1:,} more bad line{'s' * (bad > 2)}" if bad > 1 else first
        raise UserError(describe(where, got, expected, "mend them, or leave them out with --skip-bad"))
    if not sides[0]:
        raise UserError(describe(where, "no pairs", expected))
    sources, targets = sides[::-1] if swap else sides
    return Corpus(name, sources, targets, {"bad lines": bad} if bad else {})


# ---------------------------------------------------------------- what is held out


class Split(NamedTuple):
    """To train on, to validate with, and to test with at the end."""

    training: Corpus
    validation: Corpus
    test: Corpus


def split(corpus: Corpus, validation: float = 0.01, test: float = 0.0) -> Split:
    """Held-out shares of the pairs, chosen by a hash of the target; see the top of this file.

    Another share of validation changes nothing in the test part.

    >>> numbers = [str(i) for i in range(1000)]
    >>> [len(part) for part in split(Corpus("numbers", numbers, numbers), validation=0.05, test=0.1)]
    [850, 46, 104]
    """
    places = [_hash(key(target)) for target in corpus.targets]
    keys = [key(source) for source in corpus.sources]
    taken: set[str] = set()
    parts = []
    for low, high in ((0.0, test), (test, test + validation), (test + validation, 1.0)):
        rows = [i for i, place in enumerate(places) if low <= place < high and keys[i] not in taken]
        taken.update(keys[i] for i in rows)
        parts.append(rows)
    for name, share, rows in zip(("test", "validation", "training"), (test, validation, 1.0), parts):
        if share and not rows:
            got = f"no pair for {name} among {len(corpus):,}"
            do = "use more pairs" + (f", or a larger --{name}-share" if name != "training" else "")
            raise UserError(describe("pairs", got, "one at least", do))
    found = [corpus.take(rows) for rows in parts]
    lost = len(corpus) - sum(map(len, parts))
    if lost:
        found[2].left_out["source held out"] = lost
    return Split(*found[::-1])


_NO_MARKS = re.compile(r"[^\W_]+")


def key(line: str) -> str:
    """What makes two lines the same sentence: its letters and digits, without case.

    >>> key("Go  on!") == key("go on")
    True
    """
    folded = unicodedata.normalize("NFKC", line).casefold()
    return " ".join(_NO_MARKS.findall(folded)) or folded


@dataclass(frozen=True)
class PairConfig(Settings):
    """Which pairs of a file are used, and for what.

    >>> numbers = Corpus("numbers", *[[str(i) for i in range(1000)]] * 2)
    >>> [len(part) for part in PairConfig(validation_share=0.05, limit=500).split(numbers)]
    [500, 53, 0]
    """

    swap: bool = flag("translate from the second column to the first")
    skip_bad: bool = flag("leave out lines that are no pair, instead of stopping there")
    longest: int | None = whole(None, 1, 10**6, "words of a side at most; longer pairs are left out")
    unique: bool = flag("leave out pairs that came before")
    limit: int | None = whole(None, 1, 10**9, "pairs to train on at most; a smaller set is part of a larger one")
    validation_share: float = real(0.01, 0, 0.5, "of the pairs, to validate with")
    test_share: float = real(0.0, 0, 0.5, "of the pairs, left for seq2seq eval --part test", closed=True)

    def read(self, path: str | os.PathLike, other: str | os.PathLike | None = None) -> Corpus:
        """The pairs of a file, or of two parallel ones."""
        how = {"swap": self.swap, "skip_bad": self.skip_bad}
        return read_pairs(path, **how) if other is None else read_parallel(path, other, **how)

    def chosen(self, corpus: Corpus) -> Corpus:
        """Without those too long or repeated."""
        if self.longest:
            corpus = corpus.at_most(self.longest)
            if not len(corpus):
                raise UserError(describe("pairs", f"none of at most {self.longest:,} words a side", "one at least"))
        return corpus.unique() if self.unique else corpus

    def split(self, corpus: Corpus) -> Split:
        """The parts of the chosen pairs; the limit is on training alone, so that the others are the same with any."""
        parts = split(self.chosen(corpus), self.validation_share, self.test_share)
        return parts._replace(training=parts.training.limit(self.limit)) if self.limit else parts


# ---------------------------------------------------------------- batches


class Pairs:
    """Batches of pairs of about one length, each ``((source (S, B), lengths (B,), target (T, B)), fresh (B,))``.

    Behind the end of a source stand zeros, behind that of a target -100. In every epoch each pair comes once. Pairs
    are put in order of the target's length, then of the source's, and of equal ones by chance; B in a row form a batch
    (the shortest ones a smaller one), and the batches come in an order of chance: a function of ``seed`` and the
    step's number alone.

    sources, targets:  ids of each, without an end; ``end`` is put behind each target
    longest:           symbols of a side at most; pairs with more are left out, and counted in ``left_out``

    ``padding`` is the share of all places that hold no symbol, ``symbols`` how many the targets have, with their ends,
    and ``chosen`` says which pairs the last batch held.

    >>> pairs = Pairs([[4, 5], [6], [7, 8]], [[2, 3, 4], [5], [6]], batch=2, seed=0, end=1)
    >>> (source, lengths, target), fresh = pairs(0)
    >>> source.T.tolist(), lengths.tolist(), target.T.tolist(), pairs.per_epoch
    ([[4, 5], [7, 8]], [2, 2], [[2, 3, 4, 1], [6, 1, -100, -100]], 2)
    """

    def __init__(self, sources: Iterable[Sequence[int]], targets: Iterable[Sequence[int]], batch: int, seed: int, *,
                 end: int, longest: int | None = None):  # fmt: skip
        if batch < 1:
            raise UserError(describe("batch", str(batch), "1 or more"))
        (self.sources, s), (self.targets, t) = _flat(sources), _flat(targets, end)
        if len(s) != len(t):
            raise UserError(describe("pairs", f"{len(s) - 1:,} sources and {len(t) - 1:,} targets", "as many of both"))
        lengths = np.diff(s), np.diff(t)
        if not lengths[0].all():
            got = f"an empty source (pair {int((lengths[0] == 0).argmax()) + 1:,})"
            raise UserError(describe("pairs", got, "one symbol at least"))
        kept = np.arange(len(s) - 1)
        if longest is not None:
            kept = np.flatnonzero((lengths[0] <= longest) & (lengths[1] <= longest + 1))
        self.left_out = len(s) - 1 - len(kept)
        if not len(kept):
            got = f"none of at most {longest:,} symbols a side" if self.left_out else "none"
            raise UserError(describe("pairs", got, "one at least"))
        self.rows, self.batch, self.seed = kept, batch, seed  # rows: their numbers among those given
        self._starts = s[kept], t[kept]
        self._lengths = lengths[0][kept], lengths[1][kept]
        self.per_epoch = -(-len(kept) // batch)
        self.symbols = int(self._lengths[1].sum())
        order = self._sorted(np.zeros(len(kept)))  # as in every epoch, but for chance among equal ones
        firsts = np.arange(0, len(kept), batch)
        sizes = np.diff(firsts, append=len(kept))
        places = sum(int(np.maximum.reduceat(n[order], firsts) @ sizes) for n in self._lengths)
        self.padding = 1 - sum(int(n.sum()) for n in self._lengths) / places
        self._epoch, self.chosen = -1, np.arange(0)

    @classmethod
    def of(cls, corpus: Corpus, source: Vocabulary, target: Vocabulary, batch: int, seed: int,
           longest: int | None = None) -> Pairs:  # fmt: skip
        """Those of lines, encoded."""
        where = f"pairs {corpus.name}"
        sources = (source.encode(line, where) for line in corpus.sources)
        targets = (target.encode(line, where) for line in corpus.targets)
        return cls(sources, targets, batch, seed, end=target.end, longest=longest)

    def __len__(self) -> int:
        return len(self.rows)

    def _sorted(self, chance: np.ndarray) -> np.ndarray:
        """Pairs, those with the longest target first; of one length of it by the source's, down and up by turns, so
        that neighbours are alike."""
        s, t = self._lengths
        return np.lexsort((chance, np.where(t % 2, s, -s), -t))

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        epoch, k = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order = self._sorted(rng.random(len(self)))
            self._epoch, self._turns = epoch, rng.permutation(self.per_epoch)
        first = self._turns[k] * self.batch
        chosen = self._order[first : first + self.batch]
        self.chosen = self.rows[chosen]
        source, target = (
            _block(ids, starts[chosen], n[chosen], pad)
            for ids, starts, n, pad in zip((self.sources, self.targets), self._starts, self._lengths, (0, -100))
        )
        return (source, self._lengths[0][chosen], target), np.ones(len(chosen), bool)


def _flat(rows: Iterable[Sequence[int]], end: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All ids one behind the other, and where each row begins, with the end of the last (rows + 1,)."""
    ids, edges = array("i"), array("q", [0])
    for row in rows:
        ids.frombytes(np.asarray(row, np.int32).tobytes())
        if end is not None:
            ids.append(end)
        edges.append(len(ids))
    return np.array(ids, np.int32), np.array(edges, np.int64)


def _block(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, pad: int) -> np.ndarray:
    """Rows of ``ids`` side by side (longest, B), with ``pad`` behind each."""
    at = np.arange(lengths.max())[:, None]
    return np.where(at < lengths, ids[np.minimum(starts + at, len(ids) - 1)], np.int32(pad))
