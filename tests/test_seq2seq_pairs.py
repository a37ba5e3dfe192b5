"""Pairs of lines: files, what is held out, and batches in which each pair comes once an epoch."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.errors import UserError
from minigrad.models.seq2seq.pairs import (
    Corpus,
    PairConfig,
    Pairs,
    key,
    read_pairs,
    read_parallel,
    split,
    words,
)
from minigrad.models.vocabulary import LineVocabularyConfig

# ------------------------------------------------------------------------------------------------ files


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines_of(corpus):
    return [*corpus.sources], [*corpus.targets]


@pytest.mark.parametrize(
    "data",
    [
        "Go.\tVa !\nRun!\tCours !\n",
        "\ufeffGo.\tVa !\r\nRun!\tCours !\r\n",  # from an editor of another system
        " Go. \tVa !\tmore\tcolumns\nRun!\t Cours !",
        "Go.\tVa !\nRun!\tCours !\n\n \n\t\n",
    ],
)
def test_a_table_of_pairs(data):
    Path("a.tsv").write_text(data, newline="")
    corpus = read_pairs("a.tsv")
    assert lines_of(corpus) == (["Go.", "Run!"], ["Va !", "Cours !"]) and corpus.left_out == {}
    assert lines_of(read_pairs("a.tsv", swap=True)) == (["Va !", "Cours !"], ["Go.", "Run!"])


BAD = {
    "one column": ("a\tb\nc\nd\te\n", "line 2 with one column,"),
    "an empty source": ("a\tb\n \tc\n", "line 2 with nothing in the first column"),
    "an empty target": ("a\tb\nc\t\td\n", "line 2 with nothing in the second column"),
    "an empty line": ("a\tb\n\nc\td\n", "line 2 with nothing,"),
    "many": ("a\tb\nc\n\t\nd\n", "line 2 with one column, and 2 more bad lines,"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_first_bad_line_is_named_and_the_others_counted(name):
    data, said = BAD[name]
    Path("a.tsv").write_text(data)
    for swap in (False, True):
        with pytest.raises(UserError, match=r"^\[pairs a.tsv\] got ") as error:
            read_pairs("a.tsv", swap=swap)
        assert said in str(error.value) and "--skip-bad" in str(error.value) and "\n" not in str(error.value)
    rows = [
        row for row in (line.split("\t") for line in data.split("\n")) if len(row) > 1 and row[0].strip() and row[1]
    ]
    corpus = read_pairs("a.tsv", skip_bad=True)
    assert [*corpus] == [tuple(row) for row in rows] and corpus.left_out["bad lines"] >= 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"caf\xe9\tx\n", "byte 0xe9 at 3, which is not UTF-8"), (b"a\tb\0\n", "a zero byte at 3"),
        (b"", "an empty file"), (b"\n\n", "no pairs"), ("a\tb".encode("utf-16"), "iconv"),
    ],
)  # fmt: skip
def test_files_that_hold_no_text(data, said):
    Path("a.tsv").write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_pairs("a.tsv")
    with pytest.raises(UserError, match=said):
        read_parallel("a.tsv", "a.tsv")


def test_parallel_files():
    Path("a").write_text("a b\nc\n\n")
    Path("b").write_text("A\tB\nC")
    assert [*read_parallel("a", "b")] == [("a b", "A\tB"), ("c", "C")]
    assert [*read_parallel("a", "b", swap=True)] == [("A\tB", "a b"), ("C", "c")]
    Path("b").write_text("A B\n")
    with pytest.raises(UserError, match=r"\[pairs a and b\] got 2 and 1 lines, expected as many in both"):
        read_parallel("a", "b")  # and no pair may be made of the lines that happen to be there
    Path("a").write_text("a\n\n\nd\n")
    Path("b").write_text("A\nB\n\nD\n")
    with pytest.raises(UserError, match="line 2 with nothing in the first column, and 1 more bad line,"):
        read_parallel("a", "b")
    assert [*read_parallel("a", "b", skip_bad=True)] == [("a", "A"), ("d", "D")]


# ------------------------------------------------------------------------------------------------ which pairs

SIDES = st.text(alphabet="abA é.! ", min_size=1, max_size=5).filter(str.strip)
PAIRS = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=60)


def corpus_of(pairs):
    return Corpus("drawn", *map(list, zip(*pairs)))


@given(pairs=PAIRS, most=st.integers(1, 60), fewer=st.integers(1, 60), longest=st.integers(1, 3))
def test_a_choice_of_pairs(pairs, most, fewer, longest):
    corpus = corpus_of(pairs)
    assert [*corpus.unique()] == [*dict.fromkeys(pairs)]
    assert [*corpus.at_most(longest)] == [p for p in pairs if all(words(side) <= longest for side in p)]
    larger, smaller = corpus.limit(most), corpus.limit(min(fewer, most))
    assert len(larger) == min(most, len(pairs)) and sum(larger.left_out.values()) == len(pairs) - len(larger)
    rest = iter(larger)
    assert all(any(pair == other for other in rest) for pair in smaller)  # a part of it, in the same order


@given(pairs=PAIRS, validation=st.floats(0.01, 0.5), test=st.floats(0, 0.4), seed=st.randoms(use_true_random=False))
def test_no_sentence_is_in_two_parts(pairs, validation, test, seed):
    def parts_of(pairs):
        try:
            return split(corpus_of(pairs), validation, test)
        except UserError as error:
            assert "got no pair for" in str(error)

    parts = parts_of(pairs)
    shuffled = seed.sample(pairs, len(pairs))
    again = parts_of(shuffled)
    assert (parts is None) == (again is None)
    if parts is None:
        return
    for part, other in zip(parts, again):  # whatever the order of the lines
        assert sorted(part) == sorted(other)
    keys = [[{key(line) for line in side} for side in (part.sources, part.targets)] for part in parts]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not keys[a][0] & keys[b][0] and not keys[a][1] & keys[b][1]
    found = [pair for part in parts for pair in part]
    lost = list(pairs)
    for pair in found:
        lost.remove(pair)
    held_out = keys[1][0] | keys[2][0]
    assert all(key(source) in held_out for source, _ in lost)
    assert parts.training.left_out.get("source held out", 0) == len(lost)


def test_the_split_is_the_same_everywhere_and_grows_with_its_share():
    corpus = corpus_of([(f"ligne {i}", f"line {i}") for i in range(2000)])
    parts = split(corpus, 0.05, 0.1)
    assert [len(part) for part in parts] == [1693, 106, 201]
    assert parts.test.targets[:3] == ["line 4", "line 8", "line 31"]  # a hash that no machine may change
    assert [*split(corpus, 0.2, 0.1).test] == [*parts.test]
    assert {*split(corpus, 0.2, 0.1).validation} > {*parts.validation}
    chosen = PairConfig(limit=100, validation_share=0.05, test_share=0.1).split(corpus)
    assert len(chosen.training) == 100 and [*chosen.test] == [*parts.test]
    assert chosen.training.left_out == {"beyond the limit": 1593}


def test_what_is_the_same_sentence():
    """Case, also where lower() does not do, marks, and how Unicode writes it: "ﬁ" is "fi"."""
    for line, other in (("Go  on!", "go on"), ("STRASSE", "straße"), ("ﬁn", "fin"), ("cafe\u0301", "café")):
        assert key(line) == key(other)
    assert len({key(line) for line in ("go on", "goon", "1", "2", "?", "!")}) == 6


def test_one_sentence_with_many_translations():
    english = [f"sentence {i // 4}{'.!? '[i % 4]}".strip() for i in range(400)]
    parts = split(Corpus("many", english, [f"phrase {i}" for i in range(400)]), 0.2)
    assert {key(s) for s in parts.training.sources}.isdisjoint({key(s) for s in parts.validation.sources})
    parts = split(Corpus("many", [f"phrase {i}" for i in range(400)], english), 0.2)
    assert all(len(part) % 4 == 0 for part in parts) and sum(map(len, parts)) == 400


def test_too_few_pairs_to_split():
    for shares in ((0.01, 0.0), (0.5, 0.001)):
        with pytest.raises(UserError, match="got no pair for .*-share"):
            split(Corpus("few", ["a", "b", "c"], ["a", "b", "c"]), *shares)
    with pytest.raises(UserError, match="none of at most 1 word"):
        PairConfig(longest=1).split(Corpus("long", ["a b"], ["c"]))


def test_fingerprints_tell_pairs_apart():
    prints = [Corpus("x", *sides).fingerprint() for sides in ((["a"], ["b"]), (["b"], ["a"]), (["a", "b"], ["b", "a"]))]
    assert len({p["sha256"] for p in prints}) == 3 and prints[2]["pairs"] == 2
    assert Corpus("x", ["a"], ["b"]).fingerprint() == prints[0]


# ------------------------------------------------------------------------------------------------ batches

IDS = st.lists(st.integers(2, 9), max_size=8)
ROWS = st.lists(st.tuples(IDS.filter(bool), IDS), min_size=1, max_size=40)


def rows_of(batch):
    (source, lengths, target), fresh = batch
    assert source.shape == (lengths.max(), len(lengths)) and fresh.shape == lengths.shape and fresh.all()
    behind = target == -100
    assert (np.sort(behind, 0) == behind).all() and not behind.all(-1).any()
    assert ((np.arange(len(source))[:, None] >= lengths) <= (source == 0)).all()
    for b, n in enumerate(lengths):
        ids = target[~behind[:, b], b].tolist()
        assert ids.pop() == 1
        yield source[:n, b].tolist(), ids


@given(rows=ROWS, batch=st.integers(1, 9), seed=st.integers(0, 5), longest=st.none() | st.integers(2, 8))
def test_every_pair_comes_once_an_epoch(rows, batch, seed, longest):
    kept = [i for i, pair in enumerate(rows) if max(map(len, pair)) <= (longest or 99)]
    if not kept:
        with pytest.raises(UserError, match="none of at most"):
            Pairs(*zip(*rows), batch, seed, end=1, longest=longest)
        return
    pairs = Pairs(*zip(*rows), batch, seed, end=1, longest=longest)
    assert len(pairs) == len(kept) == len(rows) - pairs.left_out and pairs.per_epoch == -(-len(kept) // batch)
    assert pairs.symbols == sum(len(rows[i][1]) + 1 for i in kept)
    for epoch in (0, 1):
        found, places = [], 0
        for k in range(pairs.per_epoch):
            block = pairs(epoch * pairs.per_epoch + k)
            assert [*rows_of(block)] == [rows[i] for i in pairs.chosen]
            found += pairs.chosen.tolist()
            places += block[0][0].size + block[0][2].size
        assert sorted(found) == kept
        symbols = sum(len(rows[i][0]) + len(rows[i][1]) + 1 for i in kept)
        assert pairs.padding == pytest.approx(1 - symbols / places)
    other = Pairs(*zip(*rows), batch, seed, end=1, longest=longest)  # a step is a function of its number alone
    for step in (2 * pairs.per_epoch - 1, 0):
        for a, b in zip(other(step)[0], pairs(step)[0]):
            np.testing.assert_array_equal(a, b)


def test_each_seed_has_its_own_order():
    def chosen(seed):
        pairs = Pairs([[2]] * 99, [[3]] * 99, 9, seed, end=1)
        return [(pairs(k), pairs.chosen.tolist())[1] for k in range(2)]

    assert chosen(1) == chosen(1) != chosen(2)


def test_pairs_of_about_one_length_meet_others_in_every_epoch():
    rng = np.random.default_rng(0)
    rows = [([7] * n, [8] * max(n + d, 0)) for n, d in zip(rng.integers(3, 20, 2000), rng.integers(-3, 4, 2000))]
    pairs = Pairs(*zip(*rows), 32, 3, end=1)
    assert pairs.padding < 0.05
    seen = []
    for step in range(2 * pairs.per_epoch):
        (source, _, _), _ = pairs(step)
        seen.append((len(source), frozenset(pairs.chosen.tolist())))
    first, second = seen[: pairs.per_epoch], seen[pairs.per_epoch :]
    assert len({chosen for _, chosen in first} & {chosen for _, chosen in second}) <= 3
    assert [n for n, _ in first] != [n for n, _ in second] != sorted(n for n, _ in second)


def test_lines_become_batches():
    corpus = Corpus("two", ["Go on!", "Go."], ["Va !", "Pars maintenant."])
    for level in ("char", "word"):
        source, target = (LineVocabularyConfig(level=level).build(side) for side in (corpus.sources, corpus.targets))
        pairs = Pairs.of(corpus, source, target, batch=2, seed=0)
        found = [(source.decode(a), target.decode(b)) for a, b in rows_of_lines(pairs(0)[0], target.end)]
        assert sorted(found) == sorted(corpus)


def rows_of_lines(batch, end):
    source, lengths, target = batch
    for b, n in enumerate(lengths):
        ids = [i for i in target[:, b].tolist() if i != -100]
        assert ids.pop() == end
        yield source[:n, b], ids


def test_pairs_that_are_none():
    for sources, targets, said in (
        ([], [], "got none"), ([[2], []], [[3], [3]], r"an empty source \(pair 2\)"), ([[2]], [], "1 sources and 0"),
        ([[2] * 9], [[2]], "none of at most 5 symbols"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            Pairs(sources, targets, 2, 0, end=1, longest=5)
    with pytest.raises(UserError, match=r"\[batch\] got 0"):
        Pairs([[2]], [[3]], 0, 0, end=1)
    with pytest.raises(UserError, match="pairs letters.*1 sources and 2 targets"):
        Corpus("letters", ["a"], ["b", "c"])


def test_a_pair_of_5000_symbols_and_pairs_in_little_memory():
    long = Pairs([[2] * 5000, [3]], [[2] * 5000, [3]], 1, 0, end=1)
    assert sorted(long(k)[0][2].shape for k in (0, 1)) == [(2, 1), (5001, 1)]
    assert Pairs([[2] * 5000, [3]], [[2] * 5000, [3]], 1, 0, end=1, longest=200).left_out == 1
    assert long.sources.dtype == long.targets.dtype == long(0)[0][0].dtype == np.int32


def test_a_pipe_is_read_once():
    os.mkfifo("pipe")
    if os.fork() == 0:
        Path("pipe").write_text("a\tb\n")
        os._exit(0)
    assert [*read_pairs("pipe")] == [("a", "b")]
    os.wait()
