"""What is written of a source: beam search finds what an exhaustive search finds, and company changes nothing."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seq2seq_cases import Table, exhaustive, hypothesis, repeats

from minigrad.errors import UserError
from minigrad.models.seq2seq import decode as decode_module
from minigrad.models.seq2seq import score as score_module
from minigrad.models.seq2seq.beam import Hypothesis, best, search
from minigrad.models.seq2seq.decode import Decoding, Translation, translate
from minigrad.models.seq2seq.score import candidates, log_probabilities, tokens

SEEDS = st.integers(0, 10**6)
SOURCES = st.text("abc", min_size=1, max_size=4)
RANKED = st.fixed_dictionaries(
    {
        "length_penalty": st.sampled_from(["none", "average", "gnmt"]),
        "alpha": st.sampled_from([0.0, 0.6, 2.0]),
        "coverage_penalty": st.sampled_from([0.0, 0.3, 5.0]),
        "block_ngrams": st.integers(0, 3),
        "unknown": st.booleans(),
    }
)
SHORT = {"length_factor": 0.0, "length_offset": 4}


def searched(model, lines, how):
    """The outputs for all lines at once."""
    v, lengths = model.target, np.array([len(line) for line in lines])
    source = np.full((lengths.max(), len(lines)), 2)
    for b, line in enumerate(lines):
        source[: len(line), b] = model.source.encode(line)
    return search(model, source, lengths, how, start=v.start, end=v.end, unknown=v.unknown)


def same(one, other, exactly=True):
    close = (lambda a, b: a == b) if exactly else (lambda a, b: a == pytest.approx(b, rel=1e-9))
    assert one.ids.tolist() == other.ids.tolist() and one.complete == other.complete
    assert close(one.score, other.score) and close(one.log_probability, other.log_probability)
    if one.weights is not None:
        np.testing.assert_array_equal(one.weights, other.weights.reshape(one.weights.shape))


def same_lists(found, expected, exactly=True):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        same(one, other, exactly)


# ------------------------------------------------------------------------------------------------ beam search


@given(SEEDS, SOURCES, RANKED, st.sampled_from([".ab", ".ab?"]), st.sampled_from([1, 2, 10**3]))
def test_a_beam_as_wide_as_the_space_is_exhaustive(seed, line, options, letters, n):
    model = Table(seed, letters)
    how = Decoding(beam=1000, n_best=n, **SHORT, **options)
    expected = exhaustive(model, model.source.encode(line), how)
    same_lists(searched(model, [line], how)[0], expected[:n], exactly=False)


@given(SEEDS, SOURCES, st.integers(1, 3), st.sampled_from(["none", "average", "gnmt"]))
def test_also_with_a_least_length(seed, line, least, penalty):
    model = Table(seed)
    how = Decoding(beam=100, n_best=100, min_length=least, length_penalty=penalty, **SHORT)
    found = searched(model, [line], how)[0]
    same_lists(found, exhaustive(model, model.source.encode(line), how), exactly=False)
    assert min(len(one.ids) for one in found) == least + 1


def test_an_unfinished_beginning_may_still_win():
    """One symbol of p = 0.5 and the end, or eleven of nearly 1 behind a first one of 0.3: the longer is better on
    average, though it is found long after the first output."""
    model = Table()
    likely = {
        (): [0.5, 0.3, 0.2],
        **{(1,) * n: [1e-3, 0.998, 1e-3] for n in range(1, 10)},
        (1,) * 10: [0.998, 0.001, 0.001],
    }
    model.row = lambda source, written: (np.log(likely.get(written, [0.9, 0.05, 0.05])), np.ones(1, np.float32))
    for penalty, text in (("none", ""), ("average", "a" * 10), ("gnmt", "a" * 10)):
        how = Decoding(beam=2, length_penalty=penalty, length_factor=0.0, length_offset=12)
        assert model.target.decode(searched(model, ["a"], how)[0][0].ids[:-1]) == text
    model.asked.clear()
    searched(model, ["a"], Decoding(beam=2, length_penalty="none", length_factor=0.0, length_offset=12))
    assert len(model.asked) == 1  # 0.5 is more than 0.3: nothing can win any more


@given(SEEDS, SOURCES, RANKED)
def test_a_beam_of_one_is_greedy(seed, line, options):
    model, how = Table(seed, ".ab?"), Decoding(beam=1, **{**SHORT, "length_offset": 8}, **options)
    source, written = tuple(model.source.encode(line).tolist()), ()
    while len(written) < 8 and written[-1:] != (0,):
        logp = model.row(source, written)[0].copy()
        for i in range(1, 4):
            if repeats((*written, i), how.block_ngrams) or (i == 3 and not how.unknown):
                logp[i] = -np.inf
        written = (*written, int(logp.argmax()))
    same_lists(searched(model, [line], how)[0], [hypothesis(model, source, written, how)], exactly=False)


@given(SEEDS, st.lists(SOURCES, min_size=1, max_size=5), st.integers(1, 6), RANKED)
def test_scores_are_sorted_and_the_tables_own(seed, lines, beam, options):
    model, how = (
        Table(seed, ".ab?", sharp=3.0),
        Decoding(beam=beam, n_best=beam, length_factor=1.0, length_offset=1, **options),
    )
    for line, found in zip(lines, searched(model, lines, how)):
        assert 1 <= len(found) <= beam and len({tuple(one.ids) for one in found}) == len(found)
        assert [(not one.complete, -one.score) for one in found] == sorted(
            (not one.complete, -one.score) for one in found
        )
        source = tuple(model.source.encode(line).tolist())
        for one in found:
            same(one, hypothesis(model, source, tuple(one.ids.tolist()), how), exactly=False)
            assert one.complete == (one.ids[-1] == 0) and 0 not in one.ids[:-1]
            assert one.complete or len(one.ids) == len(line) + 1
            assert len(one.ids) <= len(line) + 1
            assert how.unknown or 3 not in one.ids
            assert not repeats(tuple(one.ids), how.block_ngrams)


@given(SEEDS, st.lists(SOURCES, min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(1, 4), RANKED,
       st.sampled_from([0.0, 1.0]))  # fmt: skip
def test_order_and_company_change_nothing(seed, lines, random, beam, options, temperature):
    model, how = Table(seed, ".ab?"), Decoding(beam=beam, n_best=beam, temperature=temperature, **options)
    alone = {line: searched(model, [line], how)[0] for line in lines}
    random.shuffle(lines)
    for line, found in zip(lines, searched(model, lines, how)):
        same_lists(found, alone[line])
    for batch in (1, 2, 64):
        for line, found in zip(lines, translate(model, lines, how, batch), strict=True):
            same_lists([Hypothesis(*one[1:]) for one in found], alone[line])


@given(SEEDS, SOURCES, st.integers(2, 5), RANKED)
def test_a_list_of_n_best_is_the_beginning_of_a_longer_one(seed, line, beam, options):
    model = Table(seed, ".ab?")
    longest = searched(model, [line], Decoding(beam=beam, n_best=beam, **options))[0]
    for n in range(1, beam):
        same_lists(searched(model, [line], Decoding(beam=beam, n_best=n, **options))[0], longest[:n])


def test_no_output_is_longer_than_the_limits():
    model = Table()
    model.row = lambda source, written: (np.log([1e-9, 0.5, 0.5]), np.ones(len(source), np.float32) / len(source))
    for temperature in (0.0, 1.0):
        limits = {"beam": 1, "length_factor": 2.0, "length_offset": 1, "max_length": 6, "temperature": temperature}
        found = searched(model, ["a", "abc"], Decoding(**limits))
        assert [{len(one.ids) for one in own} for own in found] == [{3}, {6}]


def test_sources_that_are_finished_leave_the_batch():
    model = Table(sharp=0.2)
    searched(model, ["a", "b", "abc", "aaaa"], Decoding(beam=2, length_factor=3.0, length_offset=0))
    assert model.asked[0] == 4 and max(model.asked) <= 8 and len(model.asked) <= 12
    model.asked.clear()
    searched(model, ["a", "aaaa"], Decoding(beam=1, min_length=2, length_factor=1.0, length_offset=1))
    assert model.asked[:3] == [2, 2, 2] and set(model.asked[3:]) <= {1}  # "a" may have min_length and the end


def test_a_beginning_that_nothing_may_follow_is_an_output():
    model = Table(letters=".a")
    how = Decoding(beam=3, n_best=3, block_ngrams=1, min_length=3)
    (one,) = searched(model, ["ab"], how)[0]
    assert one.ids.tolist() == [1] and not one.complete and len(one.weights) == 1
    same(one, hypothesis(model, (0, 1), (1,), how))
    found = searched(model, ["ab"], Decoding(beam=1, n_best=3, temperature=1.0, block_ngrams=1, min_length=3))[0]
    same_lists(found, [one] * 3)


def test_equal_scores_are_in_one_order():
    model = Table()
    model.row = lambda source, written: (np.full(3, -math.log(3)), np.full(len(source), 1 / len(source), np.float32))
    texts = [[one.text for one in found] for found in translate(model, ["a", "bb"], Decoding(beam=4, n_best=4))]
    assert texts == [["", "a", "b", "aa"]] * 2 or texts == [["", "a", "b"]] * 2


@given(SEEDS, st.integers(1, 30), st.integers(1, 4), st.sampled_from([1, 2, 7, 100]))
def test_the_best_of_many(seed, beam, sentences, V):
    rng = np.random.default_rng(seed)
    sentence = np.repeat(np.sort(rng.choice(9, sentences, replace=False)), rng.integers(1, 5, sentences))
    logp = rng.integers(-5, 0, (len(sentence), V)).astype(float)  # with ties
    logp[rng.random(logp.shape) < 0.3] = -np.inf
    total = rng.integers(-5, 0, len(sentence)).astype(float)
    expected = []
    for b in np.unique(sentence):
        all_ = [(-total[r] - logp[r, v], r, v) for r in np.flatnonzero(sentence == b) for v in range(V)]
        expected += [(r, v) for x, r, v in sorted(all_)[:beam] if x < np.inf]
    rows, symbols = best(logp, total, sentence, beam)
    assert list(zip(rows.tolist(), symbols.tolist())) == expected


# ------------------------------------------------------------------------------------------------ samples


def test_samples_follow_the_probabilities_of_the_model():
    model, n = Table(3, sharp=0.5), 20_000
    how = Decoding(n_best=n, temperature=1.0, length_factor=0.0, length_offset=2, length_penalty="none")
    found = searched(model, ["ab"], how)[0]
    assert len(found) == n
    for one in exhaustive(model, [0, 1], how):
        p = math.exp(one.log_probability)
        share = sum(other.ids.tolist() == one.ids.tolist() for other in found) / n
        assert abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / n) + 1e-9
    coldest = searched(model, ["ab"], Decoding(n_best=3, temperature=1e-9))[0]
    same_lists(coldest, searched(model, ["ab"], Decoding(beam=1))[0] * 3)
    same_lists(searched(model, ["ab"], Decoding(n_best=3, temperature=9.0, top_k=1))[0], coldest)
    same_lists(searched(model, ["ab"], Decoding(n_best=3, temperature=9.0, top_p=1e-9))[0], coldest)
    other = searched(model, ["ab"], Decoding(n_best=50, temperature=1.0, seed=1))[0]
    assert [one.ids.tolist() for one in other] != [one.ids.tolist() for one in found[:50]]


def test_each_source_has_its_own_draws():
    model, how = Table(), Decoding(n_best=20, temperature=1.0)
    model.row = lambda source, written: (np.log([0.2, 0.4, 0.4]), np.ones(len(source), np.float32))
    first, second, again = ([one.text for one in found] for found in translate(model, ["a", "b", "a"], how))
    assert first == again and sorted(first) != sorted(second)


# ------------------------------------------------------------------------------------------------ lines and text


def test_one_output_for_each_line_in_order():
    model, lines = Table(1), ["abc", "", "a", "", "cc", "abc"]
    found = list(translate(model, lines, Decoding(beam=2, n_best=2), batch=2))
    assert len(found) == 6 and len(found[1]) == len(found[3]) == 1
    empty = found[1][0]
    assert empty[:3] == ("", 0.0, 0.0) and empty.ids.size == 0 and empty.complete
    same_lists(found[0], found[5])
    assert not list(translate(model, [])) and not model.asked[:0]
    model.asked.clear()
    assert [one[0].text for one in translate(model, ["", ""])] == ["", ""] and not model.asked


def test_lines_are_read_when_they_are_needed():
    model, read = Table(1), []
    lines = (read.append(line) or line for line in itertools.repeat("ab"))
    found = translate(model, lines, batch=1)
    assert not read
    next(found)
    assert len(read) == 1
    found = translate(model, lines, batch=2)
    next(found)
    assert len(read) == 1 + 32


def test_a_line_that_cannot_be_encoded_loses_none_before_it():
    model = Table(1)
    real = model.source.encode

    def encode(line, where):
        if "x" in line:
            raise UserError(f"[{where}] got x")
        return real(line, where)

    model.source.encode = encode
    found = translate(model, ["a", "b", "ax", "c"])
    assert next(found) and next(found)
    with pytest.raises(UserError, match="line 3"):
        next(found)


def test_long_lines_go_through_in_smaller_batches(monkeypatch):
    sizes = lambda n, beam, V=100: [
        len(part) for part in decode_module.batches_of([n] * 64, Decoding(beam=beam), 64, V)
    ]
    assert sizes(20, 5) == [64]
    assert max(sizes(5000, 5)) * 5 * 5000 <= decode_module.POSITIONS
    assert max(sizes(5000, 5)) * 5 * 5000 * 1000 <= decode_module.WEIGHTS and sizes(5000, 1000) == [1] * 64
    assert max(sizes(20, 50, 10**5)) * 50 * 10**5 <= decode_module.NUMBERS
    far = Decoding(beam=5, max_length=10**4)  # attention of every step
    assert [len(part) for part in decode_module.batches_of([5000] * 3, far, 64, 100)] == [1] * 3
    monkeypatch.setattr(decode_module, "POSITIONS", 8)
    model = Table(1)
    translated = [found[0].text for found in translate(model, ["abc", "a", "bcaa", "b" * 50], Decoding(beam=2))]
    monkeypatch.undo()
    assert translated == [f[0].text for f in translate(model, ["abc", "a", "bcaa", "b" * 50], Decoding(beam=2))]


def test_unknown_words_are_replaced_by_those_most_attended_to():
    model = Table(4, ".?a", sharp=0.3)
    lines = ["abc", "cab", "bbbbca"]
    plain = list(translate(model, lines, Decoding(unknown=True, n_best=5)))
    for line, found, same_ in zip(lines, plain, translate(model, lines, Decoding(replace_unknown=True, n_best=5))):
        for one, other in zip(found, same_):
            same(one, other)
            expected = [line[w.argmax()] if i == 1 else model.target.letters[i] for i, w in zip(one.ids, one.weights)]
            assert other.text == "".join(expected[: len(one.ids) - one.complete])
    assert any("?" in one.text for found in plain for one in found)


# ------------------------------------------------------------------------------------------------ given pairs


@given(SEEDS, st.lists(st.tuples(SOURCES, st.text("ab?", max_size=4)), max_size=9), st.integers(1, 4))
def test_given_pairs(seed, pairs, batch):
    model = Table(seed, ".ab?")
    found = log_probabilities(model, [x for x, _ in pairs], [y for _, y in pairs], batch)
    for (x, y), one in zip(pairs, found, strict=True):
        source, ids = tuple(model.source.encode(x).tolist()), [*model.target.encode(y).tolist(), 0]
        logp = [model.row(source, tuple(ids[:t]))[0][i] for t, i in enumerate(ids)]
        assert one.log_probability == pytest.approx(sum(logp), rel=1e-6) and one.symbols == len(y) + 1
        shown = tokens(model, x, y)
        assert [token for token, _ in shown] == [("? ?" if c == "?" else c) for c in (*y, ".")]
        np.testing.assert_allclose([p for _, p in shown], logp, rtol=1e-6)


def test_long_pairs_go_through_in_smaller_batches():
    sizes = lambda S, T, V=100: [len(part) for part in score_module._batches([(S, T)] * 64, 64, V)]
    assert sizes(20, 20) == [64]
    assert max(sizes(5000, 2)) * 5000 <= decode_module.POSITIONS
    assert max(sizes(2, 100, 10**5)) * 100 * 10**5 <= decode_module.NUMBERS
    assert max(sizes(5000, 5000)) * 5000 * 5000 <= decode_module.WEIGHTS  # attention of every step
    assert sizes(10**5, 10**5) == [1] * 64


def test_candidates_are_ranked():
    model = Table(1)
    given_ = ["ab", "", "b", "ab", "aab"]
    found = candidates(model, "cab", given_)
    assert sorted(one.text for one in found) == sorted(given_)
    assert [one.log_probability for one in found] == sorted((one.log_probability for one in found), reverse=True)
    best_ = next(translate(model, ["cab"], Decoding(length_penalty="none", beam=100)))[0]
    (own,) = candidates(model, "cab", [best_.text])
    assert own.log_probability == pytest.approx(best_.log_probability, rel=1e-6) and own.symbols == len(best_.ids)
    assert isinstance(best_, Translation) and candidates(model, "cab", []) == []


# ------------------------------------------------------------------------------------------------ nonsense


def test_nonsense_is_refused():
    for bad, name in (
        ({"beam": 0}, "beam"), ({"n_best": 6}, "n_best"), ({"length_penalty": "long"}, "length_penalty"),
        ({"alpha": -1.0}, "alpha"), ({"min_length": 9, "max_length": 9}, "min_length"), ({"top_k": 3}, "top_k"),
        ({"top_p": 0.3}, "top_p"), ({"temperature": -1.0}, "temperature"), ({"block_ngrams": -1}, "block_ngrams"),
        ({"coverage_penalty": math.nan}, "coverage_penalty"), ({"length_factor": math.inf}, "length_factor"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=name):
            Decoding(**bad)
    model = Table(attends=False)
    assert next(translate(model, ["ab"]))[0].weights is None
    for name in ("coverage_penalty", "replace_unknown"):
        with pytest.raises(UserError, match=f"{name}.*without attention"):
            next(translate(model, ["ab"], Decoding(**{name: 1.0 if name == "coverage_penalty" else True})))
    with pytest.raises(UserError, match="batch"):
        translate(model, ["a"], batch=0)
    with pytest.raises(UserError, match="one string, expected a list"):
        translate(model, "ab")
    with pytest.raises(UserError, match="one string, expected a list"):
        candidates(model, "ab", "ba")
    with pytest.raises(UserError, match="without an end"):
        translate(Table(letters="ab"), ["a"])
    with pytest.raises(UserError, match="beam"):
        translate(Table(letters="." + "a" * 99), ["a"], Decoding(beam=10**6))
    model.row = lambda source, written: (np.array([-1.0, np.nan, -1.0]), np.ones(1))
    for temperature in (0.0, 1.0):
        with pytest.raises(UserError, match="NaN"):
            next(translate(model, ["ab"], Decoding(temperature=temperature)))
    with pytest.raises(UserError, match="sources"):
        log_probabilities(model, ["a"], [])
    with pytest.raises(UserError, match="source 2"):
        log_probabilities(model, ["a", ""], ["a", "a"])
