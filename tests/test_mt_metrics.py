"""BLEU, chrF and exact match: equal to sacrebleu where it is installed, and to numbers that it once printed."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.seq2seq.metrics import TOKENIZERS, bleu, chrf, compare, exact, sentence_bleu, tokenize_13a

HYPOTHESES = [
    "The cat sat on the mat.",
    "He paid $3.50 for 1,000 &quot;apples&quot; - well-known, isn't it?",
    "Où est-ce que tu habites, à Zürich ou à Łódź?",
    "",
    "今天天气很好。 Привет, мир!",
    "a.b,c 1.5-2 (x) [y] {z} <skipped> &lt;tag&gt; e@mail.org 50% #1",
]
REFERENCES = [
    "The cat is sitting on the mat.",
    'He paid $3.50 for 1000 "apples", well-known, isn\'t it?',
    "Où habites-tu, à Zürich ou à Łódź ?",
    "Nothing was said.",
    "今天天气真好。 Привет, Мир!",
    "a.b, c 1.5-2 (x) [y] {z} <tag> e@mail.org 50% #2",
]
OTHERS = [
    "A cat sat upon the mat .",
    "He paid 3.50 dollars for a thousand apples; well known, is it not?",
    "Tu habites à Zürich ou à Łódź?",
    "",
    "天气好。 Здравствуй, мир!",
    "A.B,C 1.5 - 2 (X) [Y] {Z} <TAG> E@MAIL.ORG 50% #1",
]

# python -c "import sacrebleu as s; from test_mt_metrics import *; h, r = HYPOTHESES, [REFERENCES, OTHERS];
#   print(s.corpus_bleu(h, r[:1]).score, s.corpus_bleu(h, r).score, s.corpus_bleu(h, r, lowercase=True).score,
#         s.corpus_bleu(h, r[:1], tokenize='char').score, s.corpus_bleu(h, r[:1], tokenize='none').score,
#         s.corpus_chrf(h, r[:1]).score, s.corpus_chrf(h, r, word_order=2).score,
#         s.CHRF(word_order=2, lowercase=True).corpus_score(h, r).score,
#         *[s.sentence_bleu(h[i], [REFERENCES[i]]).score for i in range(6)])"                     sacrebleu 2.6.0
PRINTED = """
71.103395 77.453270 79.151384 65.108962 30.318275 64.130857 65.239076 69.253302
42.383656 57.735027 53.316754 0.000000 23.643540 96.357495
"""


def found():
    h, r = HYPOTHESES, [REFERENCES, OTHERS]
    yield from (bleu(h, r[:1]), bleu(h, r), bleu(h, r, lower_case=True))
    yield from (bleu(h, r[:1], tokenize="char"), bleu(h, r[0], tokenize="none"))
    yield from (chrf(h, r[:1]), chrf(h, r, word_order=2), chrf(h, r, word_order=2, lower_case=True))
    yield from (sentence_bleu(a, b) for a, b in zip(h, r[0]))


def test_numbers_that_sacrebleu_printed():
    printed = [float(number) for number in PRINTED.split()]
    np.testing.assert_allclose([score.value for score in found()], printed, atol=1e-5)


def test_a_line_of_a_score_says_what_it_depends_on():
    assert bleu(["a b c d e"], ["a b c d e"]).text == (
        "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:minigrad-0.1.0 = 100.00 "
        "100.0/100.0/100.0/100.0 (BP = 1.000 ratio = 1.000 hyp_len = 5 ref_len = 5)"
    )
    score = chrf(["a"], [["a"], ["b"]], word_order=2, lower_case=True)
    assert score.signature == "nrefs:2|case:lc|eff:yes|nc:6|nw:2|space:no|version:minigrad-0.1.0"
    assert score.text == f"{score.name}|{score.signature} = 100.00" and score.name == "chrF2++"


# few words, so that n-grams are found again; and any text at all
words = st.sampled_from(
    ["the", "The", "cat", "isn't", "3.5", "1,000", "5-3", "a.", ",", '"x"', "(y)", "&quot;", "&amp;lt;", "-", "'",
     "été", "猫", "мир", "<skipped>", "z\u00a0z", "…", "$", "_", "\t", "-\n"]
)  # fmt: skip
lines = st.lists(words, max_size=9).map(" ".join) | st.text(max_size=12)
corpora = st.integers(1, 3).flatmap(lambda n: st.lists(st.tuples(*[lines] * (n + 1)), min_size=1, max_size=6))


@given(corpora, st.booleans(), st.sampled_from(sorted(TOKENIZERS)), st.booleans())
def test_bleu_is_that_of_sacrebleu(corpus, lower, tokenize, effective):
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, *references = map(list, zip(*corpus))
    metric = sacrebleu.BLEU(lower, force=True, tokenize=tokenize, effective_order=effective)
    other = metric.corpus_score(hypotheses, references)
    own = bleu(hypotheses, references, lower_case=lower, tokenize=tokenize, effective=effective)
    assert own.value == pytest.approx(other.score, abs=1e-9)
    assert own.text.split(" = ", 1)[1] == other.format().split(" = ", 1)[1]
    assert own.signature.split("|version")[0] == str(metric.get_signature()).split("|version")[0]
    one = sentence_bleu(hypotheses[0], [r[0] for r in references], tokenize=tokenize)
    theirs = sacrebleu.sentence_bleu(hypotheses[0], [r[0] for r in references], tokenize=tokenize)
    assert one.value == pytest.approx(theirs.score, abs=1e-9)


@given(corpora, st.booleans(), st.sampled_from([0, 1, 2]))
def test_chrf_is_that_of_sacrebleu(corpus, lower, word_order):
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, *references = map(list, zip(*corpus))
    metric = sacrebleu.CHRF(word_order=word_order, lowercase=lower)
    other = metric.corpus_score(hypotheses, references)
    own = chrf(hypotheses, references, word_order=word_order, lower_case=lower)
    assert own.value == pytest.approx(other.score, abs=1e-9) and own.name == other.name
    assert own.signature.split("|version")[0] == str(metric.get_signature()).split("|version")[0]


@given(lines)
def test_tokens_are_those_of_sacrebleu(line):
    tokenizers = pytest.importorskip("sacrebleu.tokenizers.tokenizer_13a")
    assert tokenize_13a(line) == tokenizers.Tokenizer13a()(line).split()


@given(st.lists(lines, min_size=1, max_size=5), st.booleans())
def test_a_reference_itself_is_perfect(corpus, lower):
    assert exact(corpus, [["no such line"] * len(corpus), corpus], lower_case=lower).value == 100
    assume(any(line.split() for line in corpus))
    assert chrf(corpus, corpus, lower_case=lower).value == pytest.approx(100)
    assert bleu(corpus, corpus, tokenize="none").value in (0, 100)  # 0: no line of four words
    assert all(0 <= score.value <= 100 for score in (bleu(corpus, corpus[::-1]), chrf(corpus, corpus[::-1])))


def test_exact_counts_equal_lines():
    score = exact(["a", "B", "c ", ""], ["a", "b", "c", ""])
    assert score.value == 50 and score.text == "exact|nrefs:1|case:mixed|version:minigrad-0.1.0 = 50.00 (2 of 4)"
    assert exact(["a", "B", "c ", ""], ["a", "b", "c", ""], lower_case=True).value == 75


# ---------------------------------------------------------------- two systems


@pytest.mark.parametrize("metric", ["bleu", "chrf", "chrf++", "exact"])
def test_resampling_by_definition(metric):
    """The scores of the lines that were drawn, one resample after the other."""
    a, b, references = HYPOTHESES, OTHERS, REFERENCES
    of = {"bleu": bleu, "chrf": chrf, "exact": exact,
          "chrf++": lambda h, r: chrf(h, r, word_order=2)}[metric]  # fmt: skip
    found, rng, differences = compare(a, b, references, metric, resamples=20, seed=3), np.random.default_rng(3), []
    for _ in range(20):
        at = rng.integers(len(a), size=len(a))
        drawn = [[lines[i] for i in at] for lines in (a, b, references)]
        differences.append(of(drawn[0], drawn[2]).value - of(drawn[1], drawn[2]).value)
    assert (found.a, found.b) == (of(a, references), of(b, references))
    assert found.difference == pytest.approx(np.mean(differences))
    np.testing.assert_allclose([found.low, found.high], np.quantile(differences, [0.025, 0.975]), atol=1e-9)
    assert found.better == np.mean(np.array(differences) > 0) and found.worse == np.mean(np.array(differences) < 0)


def test_white_space_at_the_end_of_a_line_is_nothing():
    """As in sacrebleu: it goes before "-" and a line end, which are a word that was parted, can meet."""
    plain, spaced = (bleu([f"a b c d -{end}"], ["a b c d e"]).text for end in ("", "\n"))
    assert plain == spaced and "hyp_len = 5" in plain


def test_a_system_is_neither_better_nor_worse_than_itself():
    found = compare(HYPOTHESES, HYPOTHESES, REFERENCES, resamples=30)
    assert found[2:7] == (0, 0, 0, 0, 0)
    other = compare(REFERENCES, HYPOTHESES, REFERENCES, resamples=200, lower_case=True)
    assert other.better > 0.95 and other.worse == 0 and other.low > 0 and "case:lc" in other.a.signature
    assert other.text.startswith("BLEU: a 100.00, b ") and math.isfinite(other.difference)
    assert compare(REFERENCES, HYPOTHESES, REFERENCES, resamples=200, lower_case=True) == other


# ---------------------------------------------------------------- bad input

WRONG = [
    (([], []), "no line"),
    ((["a"], ["a", "b"]), "1 hypotheses and 2 references,"),
    ((["a"], [["a"], []]), "1 hypotheses and 0 references in list 2"),
    ((["a"], []), "0 references"),
    (("a", "a"), "one string"),
    ((["a", None], ["a", "b"]), "NoneType as line 2"),
    ((["a"], [[3]]), "int as line 1"),
]


@pytest.mark.parametrize("arguments, said", WRONG)
@pytest.mark.parametrize("metric", [bleu, chrf, exact, lambda h, r: compare(h, h, r)])
def test_lines_that_do_not_fit_together(metric, arguments, said):
    with pytest.raises(UserError, match=said) as error:
        metric(*arguments)
    assert "\n" not in str(error.value)


def test_other_wrong_arguments():
    with pytest.raises(UserError, match="one of 13a, char, none"):
        bleu(["a"], ["a"], tokenize="intl")
    with pytest.raises(UserError, match="one of bleu, chrf"):
        compare(["a"], ["a"], ["a"], "ter")
    with pytest.raises(UserError, match="0 resamples"):
        compare(["a"], ["a"], ["a"], resamples=0)
    with pytest.raises(UserError, match="2 hypotheses and 1"):
        compare(["a"], ["a", "b"], ["a"])
