"""Analogies and word similarity: counted as their definitions say, and what a bad file is told."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.embed import evaluate
from minigrad.models.embed.evaluate import (
    Section,
    analogies,
    pearson,
    ranks,
    read_analogies,
    read_pairs,
    similarity,
    spearman,
    totals,
)
from minigrad.models.embed.vectors import METHODS, WordVectors


def drawn(words, dim=5, seed=0):
    return WordVectors(words, np.random.default_rng(seed).standard_normal((len(words), dim)))


# ------------------------------------------------------------------------------------------------ analogies


def answer(v, question, among, fold, method):
    """By ``most_similar``: the first answer that is no form of a given word; None if a word is not known."""
    form = str.upper if fold else str
    known = {form(w): w for w in reversed(v.words[:among])}
    if not all(form(w) in known for w in question):
        return None
    a, b, c = (known[form(w)] for w in question[:3])
    found = v.most_similar([b, c], [a], len(v), method, among)
    return next((w for w, _ in found if form(w) not in map(form, (a, b, c))), "none")


def brute(v, questions, among, fold, method):
    form = str.upper if fold else str
    answers = [(answer(v, q, among, fold, method), q[3]) for q in questions]
    asked = [form(x) == form(d) for x, d in answers if x is not None]
    return sum(asked), len(asked), len(questions) - len(asked)


WORDS = ["a", "b", "A", "c", "d", "B", "e", "f", "E", "g"]


different = st.tuples(*[st.sampled_from([*WORDS, "G", "x"])] * 3).filter(lambda q: len({w.lower() for w in q}) == 3)


@given(st.sampled_from(METHODS), st.booleans(), st.integers(1, 12), st.integers(0, 20), st.data())
def test_analogies_are_their_definition(method, fold, among, seed, data):
    v, questions = drawn(WORDS, 2, seed), []
    for abc in data.draw(st.lists(different, max_size=30)):
        best = answer(v, (*abc, "f"), among, fold, method) or "a"  # in any form it is right, if there is folding
        questions.append((*abc, data.draw(st.sampled_from([best, best.lower(), best.upper(), "g"]))))
    (found,) = analogies(v, {"s": questions}, among, fold, method)
    assert found == ("s", *brute(v, questions, among, fold, method))


@pytest.mark.parametrize("method", METHODS)
def test_blocks_give_what_the_whole_gives(method, monkeypatch):
    v = drawn([f"w{i}" for i in range(90)], 4)
    rng = np.random.default_rng(0)
    asked = [tuple(f"w{i}" for i in rng.permutation(90)[:3]) for _ in range(50)]
    # every second one is to be answered rightly
    best = [v.most_similar([b, c], [a], 2, method)[k % 2][0] for k, (a, b, c) in enumerate(asked)]
    questions = [(*abc, d) for abc, d in zip(asked, best)]
    assert analogies(v, {"s": questions}, method=method) == [Section("s", 25, 50, 0)]
    monkeypatch.setattr(evaluate, "ROWS", 7)
    monkeypatch.setattr(evaluate, "QUESTIONS", 3)
    assert analogies(v, {"s": questions}, method=method) == [Section("s", 25, 50, 0)]


def test_nothing_is_left_to_answer():
    v = drawn(["a", "b", "c"])
    assert analogies(v, {"s": [("a", "b", "c", "c")], "t": []}) == [Section("s", 0, 1, 0), Section("t", 0, 0, 0)]
    assert math.isnan(Section("t", 0, 0, 3).accuracy) and Section("s", 1, 4, 0).accuracy == 0.25


def test_a_question_asked_twice_counts_twice():
    v = WordVectors(["man", "woman", "king", "queen"], [[1, 0], [-1, 0], [1, 2], [-1, 2]])
    question = ("man", "woman", "king", "queen")
    assert [s.right for s in analogies(v, {"s": [question, question], "t": [question]})] == [2, 1]


def test_totals():
    sections = [Section("family", 1, 2, 3), Section("gram1-x", 2, 4, 1), Section("gram2-y", 0, 1, 0)]
    assert totals(sections) == [("semantic", 1, 2, 3), ("syntactic", 2, 5, 1), ("all", 3, 7, 4)]
    assert totals(sections[:1]) == [("all", 1, 2, 3)]


# ------------------------------------------------------------------------------------------------ similarity

SCIPY = [  # scipy 1.17: stats.spearmanr, stats.pearsonr
    ([1, 2, 2, 3, 5], [2, 1, 4, 4, 4], 0.6308932681440449, 0.5828155051501961),
    ([0.5, 0.1, 0.1, 0.1, 9, 3], [3, 3, 2, 1, 2, 2], 0.03279129178919765, -0.12227780910612217),
    ([1, 2, 3, 4], [10, 8, 8, -100], -0.9486832980505139, -0.7839829020160917),
]


@pytest.mark.parametrize("x, y, by_rank, by_value", SCIPY)
def test_correlations_of_scipy(x, y, by_rank, by_value):
    x, y = np.array(x, float), np.array(y, float)
    assert (spearman(x, y), pearson(x, y)) == (pytest.approx(by_rank, abs=1e-12), pytest.approx(by_value, abs=1e-12))


numbers = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0, 1e-200, 1e200]), min_size=1, max_size=12)


@given(numbers)
def test_ranks_are_their_definition(x):
    expected = [sum(b < a for b in x) + (1 + sum(b == a for b in x)) / 2 for a in x]
    assert ranks(np.array(x)).tolist() == expected


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=20))
def test_pearson_is_numpys(pairs):
    x, y = np.array(pairs, float).T
    if np.ptp(x) and np.ptp(y):
        assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    else:
        assert math.isnan(pearson(x, y))


def test_similarity_of_known_pairs():
    v = WordVectors(["a", "B", "c", "A"], [[1, 0], [1, 1], [0, 1], [0, 0]])
    pairs = [("A", "b", 9), ("a", "c", 1), ("B", "c", 9), ("a", "x", 5), ("x", "y", 1)]
    found = similarity(v, pairs)
    assert found[2:] == (3, 2) and found.spearman == pytest.approx(1) == found.pearson
    assert similarity(v, pairs, fold=False)[2:] == (2, 3)
    assert similarity(v, pairs, among=2)[2:] == (1, 4) and math.isnan(similarity(v, pairs, among=2).pearson)
    assert similarity(v, [("A", "a", 1.0), ("a", "b", 2.0)], fold=False).skipped == 1  # A is zeros: a cosine of 0


# ------------------------------------------------------------------------------------------------ files


def test_files_are_read(tmp_path):
    path = tmp_path / "q.txt"
    path.write_bytes(b": family\r\nman woman  king queen\r\n\r\n:gram1 two words\na\tb c d\n: family\nx y z w\n")
    assert read_analogies(path) == {
        "family": [("man", "woman", "king", "queen"), ("x", "y", "z", "w")],
        "gram1 two words": [("a", "b", "c", "d")],
    }
    path.write_text("a b c d\n")
    assert read_analogies(path) == {"questions": [("a", "b", "c", "d")]}
    path.write_text("# people\n\ntiger\tcat\t7.35\nlove sex 6\nnew york\tcity\t1e1\n")
    assert read_pairs(path) == [("tiger", "cat", 7.35), ("love", "sex", 6.0), ("new york", "city", 10.0)]


@pytest.mark.parametrize("read, text, said", [
    (read_analogies, ": s\na b c d\na b c\n", "line 3: 'a b c', expected ': section' or four words"),
    (read_analogies, "a b c d e\n", "line 1"),
    (read_analogies, ": s\n", "no question"),
    (read_analogies, "", "an empty file"),
    (read_pairs, "a b 1\na b\n", "line 2: 'a b', expected two words and a number"),
    (read_pairs, "a b c\n", "line 1"),
    (read_pairs, "a b nan\n", "line 1"),
    (read_pairs, "a\tb\t1\t2\n", "line 1"),
    (read_pairs, "a\n", "line 1"),
    (read_pairs, "#\n", "no pair"),
    (read_pairs, f"{'long' * 99}\n", r"\.\.\.'"),
])  # fmt: skip
def test_bad_files(tmp_path, read, text, said):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(UserError, match=said):
        read(tmp_path / "bad.txt")


def test_files_that_are_no_text(tmp_path):
    for read in (read_analogies, read_pairs):
        with pytest.raises(UserError, match="No such file"):
            read(tmp_path / "nowhere.txt")
        (tmp_path / "latin.txt").write_bytes(b"caf\xe9 a b c\n")
        with pytest.raises(UserError, match="not UTF-8"):
            read(tmp_path / "latin.txt")


def test_an_unknown_method():
    with pytest.raises(UserError, match="'cosine'"):
        analogies(drawn(["a"]), {}, method="cosine")
