"""Floor 7: how near translations are to references: BLEU, chrF, exact match, and whether two systems really differ.

BLEU and chrF are those of sacrebleu (Post 2018, "A call for clarity in reporting BLEU scores"), and a score carries a
signature that names what it depends on. Every metric is a function of counts that sum up over lines.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from string import punctuation
from typing import Any, NamedTuple

import numpy as np

from minigrad import __version__
from minigrad.errors import UserError, describe
from minigrad.nn.module import Seed, as_generator

ORDER = 4  # longest n-gram of BLEU
CHARACTERS, BETA = 6, 2  # of chrF: longest n-gram, and how often more recall counts than precision
References = Sequence[str] | Sequence[Sequence[str]]  # a line for each hypothesis, or several such lists


class Score(NamedTuple):
    """A metric's name, its value from 0 to 100, what it depends on, and all of it in a line as sacrebleu prints it."""

    name: str
    value: float
    signature: str
    text: str


class Metric(NamedTuple):
    """``count`` gives the counts (K,) of a line and its references, ``value`` the score of their sum, and details."""

    name: str
    settings: str
    count: Callable[[str, Sequence[str]], list[int]]
    value: Callable[[Sequence[int]], tuple[float, str]]

    def counts(self, hypotheses: Sequence[str], references: References) -> tuple[np.ndarray, int]:
        """Counts of each line, (L, K), and how many references it has."""
        rows, number = _rows(hypotheses, references)
        return np.array([self.count(line, own) for line, own in zip(hypotheses, rows)], np.int64), number

    def score(self, counts: np.ndarray, references: int) -> Score:
        """The score of lines with these counts, (L, K)."""
        value, details = self.value(counts.sum(0).tolist())
        signature = f"nrefs:{references}|{self.settings}|version:minigrad-{__version__}"
        return Score(self.name, value, signature, f"{self.name}|{signature} = {value:.2f}{details}")


def _rows(hypotheses: Sequence[str], references: References) -> tuple[list[tuple[str, ...]], int]:
    """The references of each line, and how many there are; UserError if lines and references do not fit together."""
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise UserError(describe("score", "one string", "a list of lines"))
    lists = [references] if not references or isinstance(references[0], str) else references
    if not hypotheses:
        raise UserError(describe("score", "no line", "at least one hypothesis"))
    for number, own in enumerate(lists, 1):
        if len(own) != len(hypotheses):
            which = "" if len(lists) == 1 else f" in list {number}"
            got = f"{len(hypotheses):,} hypotheses and {len(own):,} references{which}"
            raise UserError(describe("score", got, "as many of both, a line each"))
    for lines in (hypotheses, *lists):
        for number, line in enumerate(lines, 1):
            if not isinstance(line, str):
                raise UserError(describe("score", f"{type(line).__name__} as line {number:,}", "text"))
    return list(zip(*lists)), len(lists)


# ---------------------------------------------------------------- BLEU

ENTITIES = (("<skipped>", ""), ("-\n", ""), ("\n", " "), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
RULES = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),  # ASCII punctuation but ' , - .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # . and , unless behind a digit
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # ... and unless before one
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),  # - behind a digit
)


def tokenize_13a(line: str) -> list[str]:
    """Tokens as NIST's mteval-v13a.pl and WMT make them.

    >>> tokenize_13a("It's 3.5 &quot;km&quot;, he said.")
    ["It's", '3.5', '"', 'km', '"', ',', 'he', 'said', '.']
    """
    for old, new in ENTITIES:
        line = line.replace(old, new)
    line = f" {line} "
    for rule, new in RULES:
        line = rule.sub(new, line)
    return line.split()


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "13a": tokenize_13a,
    "char": lambda line: list("".join(line.split())),
    "none": str.split,
}


def _ngrams(words: Sequence, order: int) -> Counter:
    return Counter(zip(*(words[i:] for i in range(order))))


def _bleu_counts(split: Callable[[str], list[str]], line: str, references: Sequence[str]) -> list[int]:
    """Length, that of the reference of nearest length, matches of n-grams (4), n-grams (4)."""
    words, others = split(line), [split(reference) for reference in references]
    counts = [len(words), min((abs(len(other) - len(words)), len(other)) for other in others)[1]]
    matches = []
    for n in range(1, ORDER + 1):
        most = _ngrams(others[0], n)
        for other in others[1:]:
            most |= _ngrams(other, n)
        matches.append((_ngrams(words, n) & most).total())
    return counts + matches + [max(len(words) - n, 0) for n in range(ORDER)]


def _bleu_value(effective: bool, counts: Sequence[int]) -> tuple[float, str]:
    """BP exp(mean of ln p_n), BP = min(1, exp(1 - reference / length)); smoothed as mteval does: the first p_n without
    a match is 1 / (2 n-grams), the next 1 / (4 n-grams), ..."""
    length, other, matches, totals = counts[0], counts[1], counts[2 : 2 + ORDER], counts[2 + ORDER :]
    brevity = 1.0 if length >= other else math.exp(1 - other / length) if length else 0.0
    precisions, value, halved, order = [0.0] * ORDER, 0.0, 1, ORDER
    if any(matches):
        for n in range(ORDER):
            if not totals[n]:
                order = n if effective else ORDER
                break
            halved *= 1 if matches[n] else 2
            precisions[n] = 100 * (matches[n] or 1 / halved) / totals[n]
        used = precisions[:order]
        value = min(brevity * math.exp(sum(map(math.log, used)) / order), 100.0) if all(used) else 0.0
    shares = "/".join(f"{p:.1f}" for p in precisions)
    ratio = length / other if other else 0
    return value, f" {shares} (BP = {brevity:.3f} ratio = {ratio:.3f} hyp_len = {length} ref_len = {other})"


def _bleu(lower_case: bool = False, tokenize: str = "13a", effective: bool = False) -> Metric:
    if tokenize not in TOKENIZERS:
        raise UserError(describe("BLEU", f"tokenize {tokenize!r}", f"one of {', '.join(TOKENIZERS)}"))

    def split(line: str) -> list[str]:
        return TOKENIZERS[tokenize]((line.lower() if lower_case else line).rstrip())

    settings = f"case:{_case(lower_case)}|eff:{'yes' if effective else 'no'}|tok:{tokenize}|smooth:exp"
    return Metric("BLEU", settings, partial(_bleu_counts, split), partial(_bleu_value, effective))


def _case(lower_case: bool) -> str:
    return "lc" if lower_case else "mixed"


def bleu(hypotheses: Sequence[str], references: References, *, lower_case: bool = False, tokenize: str = "13a",
         effective: bool = False) -> Score:  # fmt: skip
    """BP exp(1/4 sum_n ln p_n), with p_n the share of n-grams of all hypotheses that are in their references, each as
    often as there (Papineni et al. 2002); a p_n without a match is smoothed as by NIST's mteval-v13a.

    lower_case: without regard to capital letters
    tokenize:   13a, char (each character a token), or none (at spaces)
    effective:  leave out the orders that no hypothesis is long enough for

    >>> print(bleu(["the cat sat on a mat"], ["The cat sat on the mat."], lower_case=True).text)
    BLEU|nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:... = 45.48 83.3/60.0/50.0/33.3 (BP = 0.846 ...)
    """
    return _score(_bleu(lower_case, tokenize, effective), hypotheses, references)


def sentence_bleu(hypothesis: str, references: str | Sequence[str], *, lower_case: bool = False,
                  tokenize: str = "13a") -> Score:  # fmt: skip
    """BLEU of one line, by the orders that it is long enough for.

    >>> sentence_bleu("the cat", ["a dog", "the cat"]).value
    100.0
    """
    lists = [[line] for line in ([references] if isinstance(references, str) else references)]
    return bleu([hypothesis], lists, lower_case=lower_case, tokenize=tokenize, effective=True)


# ---------------------------------------------------------------- chrF


def _parted(line: str) -> list[str]:
    """Words, with the mark at the end of one, or else at its beginning, as a word of its own."""
    words = []
    for word in line.split():
        cut = len(word) - 1 if word[-1] in punctuation else 1 if word[0] in punctuation else 0
        words += [word[:cut], word[cut:]] if 0 < cut < len(word) else [word]
    return words


def _chrf_ngrams(line: str, word_order: int) -> list[Counter]:
    characters, words = "".join(line.split()), _parted(line) if word_order else []
    return [_ngrams(characters, n) for n in range(1, CHARACTERS + 1)] + [
        _ngrams(words, n) for n in range(1, word_order + 1)
    ]


def _chrf_counts(word_order: int, lower_case: bool, line: str, references: Sequence[str]) -> list[int]:
    """For each order the n-grams of the line, those of the reference, and the matches; of the best reference."""
    found = []
    own = _chrf_ngrams(line.lower() if lower_case else line, word_order)
    for reference in references:
        counts = []
        for a, b in zip(own, _chrf_ngrams(reference.lower() if lower_case else reference, word_order)):
            counts += [a.total() if b else 0, b.total(), (a & b).total()]
        found.append(counts)
    return max(found, key=lambda counts: _chrf_value(counts)[0])


def _chrf_value(counts: Sequence[int]) -> tuple[float, str]:
    triples = zip(counts[0::3], counts[1::3], counts[2::3])
    used = [(match / line, match / other) for line, other, match in triples if line and other]
    if not any(p for p, _ in used):
        return 0.0, ""
    precision, recall = (sum(values) / len(used) for values in zip(*used))
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall), ""


def _chrf(word_order: int = 0, lower_case: bool = False) -> Metric:
    settings = f"case:{_case(lower_case)}|eff:yes|nc:{CHARACTERS}|nw:{word_order}|space:no"
    return Metric(f"chrF{BETA}{'+' * word_order}", settings, partial(_chrf_counts, word_order, lower_case), _chrf_value)


def chrf(hypotheses: Sequence[str], references: References, *, word_order: int = 0,
         lower_case: bool = False) -> Score:  # fmt: skip
    """F = (1 + b^2) P R / (b^2 P + R), b = 2, of the precision P and the recall R of n-grams of 1 to 6 characters, each
    averaged over the orders (Popovic 2015); with ``word_order`` 2 those of one and two words too: chrF++ (2017).

    >>> print(chrf(["the cat sat on a mat"], ["the cat sat on the mat"]).text)
    chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:... = 65.98
    """
    return _score(_chrf(word_order, lower_case), hypotheses, references)


# ---------------------------------------------------------------- exact match


def _exact(lower_case: bool = False) -> Metric:
    def count(line: str, references: Sequence[str]) -> list[int]:
        form = str.lower if lower_case else str
        return [1, int(form(line) in map(form, references))]

    def value(counts: Sequence[int]) -> tuple[float, str]:
        return 100 * counts[1] / counts[0], f" ({counts[1]:,} of {counts[0]:,})"

    return Metric("exact", f"case:{_case(lower_case)}", count, value)


def exact(hypotheses: Sequence[str], references: References, *, lower_case: bool = False) -> Score:
    """How many of a hundred lines equal a reference, character for character.

    >>> print(exact(["1979-05-03", "1979-05-04"], ["1979-05-03", "1979-05-05"]).text)
    exact|nrefs:1|case:mixed|version:... = 50.00 (1 of 2)
    """
    return _score(_exact(lower_case), hypotheses, references)


# ---------------------------------------------------------------- all of them

METRICS: dict[str, Callable[..., Metric]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "chrf++": partial(_chrf, 2),
    "exact": _exact,
}


def _score(metric: Metric, hypotheses: Sequence[str], references: References) -> Score:
    return metric.score(*metric.counts(hypotheses, references))


class Comparison(NamedTuple):
    """Two systems, the difference a - b over resamples: its mean, and between which bounds 95 % of it lie; the shares
    of resamples in which a is better and in which b is; and all of it in a line."""

    a: Score
    b: Score
    difference: float
    low: float
    high: float
    better: float
    worse: float
    text: str


def compare(hypotheses_a: Sequence[str], hypotheses_b: Sequence[str], references: References, metric: str = "bleu",
            resamples: int = 1000, seed: Seed = 1, **options: Any) -> Comparison:  # fmt: skip
    """Paired bootstrap resampling (Koehn 2004): as many lines as there are, drawn with replacement, the same ones of
    both systems, again and again. If a is better in 95 % of the resamples, so it is with 95 % significance.

    metric: bleu, chrf, chrf++ or exact, with its ``options``

    >>> found = compare(["a b c d", "e f g h"], ["a b c d", "e f x h"], ["a b c d", "e f g h"], "exact", resamples=200)
    >>> found.a.value, found.b.value, 0.7 < found.better < 0.8, found.worse
    (100.0, 50.0, True, 0.0)
    """
    if metric not in METRICS:
        raise UserError(describe("compare", f"metric {metric!r}", f"one of {', '.join(METRICS)}"))
    if resamples < 1:
        raise UserError(describe("compare", f"{resamples:,} resamples", "at least 1"))
    kind, rng = METRICS[metric](**options), as_generator(seed)
    (a, number), (b, _) = (kind.counts(lines, references) for lines in (hypotheses_a, hypotheses_b))  # (L, K) each
    differences = np.empty(resamples)
    for r in range(resamples):
        often = np.bincount(rng.integers(len(a), size=len(a)), minlength=len(a))  # (L,)
        differences[r] = kind.value((often @ a).tolist())[0] - kind.value((often @ b).tolist())[0]
    scores = kind.score(a, number), kind.score(b, number)
    low, high = np.quantile(differences, (0.025, 0.975)).tolist()
    mean, better, worse = (float(values.mean()) for values in (differences, differences > 0, differences < 0))
    text = (
        f"{kind.name}: a {scores[0].value:.2f}, b {scores[1].value:.2f}; a - b {mean:.2f} on average, 95 % of "
        f"{resamples:,} resamples between {low:.2f} and {high:.2f}; a better in {better:.1%}, b in {worse:.1%}"
    )
    return Comparison(*scores, mean, low, high, better, worse, text)
