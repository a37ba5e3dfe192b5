"""Vectors of words: look-up, nearest words by three methods, and the layer that begins with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import UserError
from minigrad.models import WordVocabulary
from minigrad.models.embed.nearest import distances, largest, products
from minigrad.models.embed.vectors import METHODS, WordVectors

NOTES = {  # gender, royal, age, food
    "man": [-1, 0.01, 0.03, 0.09], "woman": [1, 0.02, 0.02, 0.01], "king": [-0.95, 0.93, 0.70, 0.02],
    "queen": [0.97, 0.95, 0.69, 0.01], "apple": [0, -0.01, 0.03, 0.95], "orange": [0.01, 0, -0.02, 0.97],
}  # fmt: skip


def notes():
    return WordVectors(NOTES, list(NOTES.values()))


def drawn(rows, dim, seed=0):
    array = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return WordVectors([f"w{i}" for i in range(rows)], array)


# ------------------------------------------------------------------------------------------------ the notes' table


@pytest.mark.parametrize("method", METHODS)
def test_king_minus_man_plus_woman_is_queen(method):
    (found, _), *_ = notes().most_similar(["king", "woman"], ["man"], method=method)
    assert found == "queen"


def test_the_distance_of_the_notes():
    """argmin over w of |e_w - (e_king - e_man + e_woman)|, by hand: king - man + woman = (1.05, .94, .69, -.06)."""
    found = dict(notes().most_similar(["king", "woman"], ["man"], method="euclidean"))
    target = np.array([1.05, 0.94, 0.69, -0.06])
    assert found == pytest.approx(
        {w: np.linalg.norm(NOTES[w] - target) for w in ("queen", "apple", "orange")}, rel=1e-5
    )
    assert found["queen"] == pytest.approx(np.sqrt(0.08**2 + 0.01**2 + 0 + 0.07**2), rel=1e-5)


def test_fruits_are_alike():
    assert notes().most_similar("apple")[0][0] == "orange"
    assert notes().similarity("apple", "orange") > 0.99 > 0 > notes().similarity("man", "woman")


# ------------------------------------------------------------------------------------------------ against definitions


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def brute(v, positive, negative, method, among):
    """Every word's score, as the definitions have it, in float64."""
    e = {word: v[word].astype(np.float64) for word in v.words}
    unit = {word: x / np.linalg.norm(x) for word, x in e.items()}
    scores = {}
    for word in v.words[:among]:
        if word in positive or word in negative:
            continue
        if method == "add":
            target = sum(unit[p] for p in positive) - sum((unit[n] for n in negative), np.zeros(v.dim))
            scores[word] = cosine(e[word], target)
        elif method == "mul":
            up, down = ([(1 + cosine(e[word], e[t])) / 2 for t in terms] for terms in (positive, negative))
            scores[word] = np.prod(up) / (np.prod(down) + 1e-6)
        else:
            target = sum(e[p] for p in positive) - sum((e[n] for n in negative), np.zeros(v.dim))
            scores[word] = np.linalg.norm(e[word] - target)
    return scores


@given(st.sampled_from(METHODS), st.integers(4, 60), st.integers(2, 40), st.integers(0, 99), st.data())
def test_most_similar_is_its_definition(method, rows, dim, seed, data):
    v = drawn(rows, dim, seed)
    chosen = data.draw(st.lists(st.sampled_from(v.words), min_size=1, max_size=3, unique=True))
    cut = data.draw(st.integers(1, len(chosen)))
    topn, among = data.draw(st.integers(1, 70)), data.draw(st.none() | st.integers(1, 70))
    found = v.most_similar(chosen[:cut], chosen[cut:], topn, method, among)
    scores = brute(v, chosen[:cut], chosen[cut:], method, among)
    assert len(found) == min(topn, len(scores)) and len(dict(found)) == len(found)
    expected = sorted(scores.values(), reverse=method != "euclidean")[: len(found)]
    rel = 2e-3 if method == "mul" else 1e-4  # a quotient of small numbers
    assert [score for _, score in found] == pytest.approx(expected, rel=rel, abs=1e-5)
    assert [score for _, score in found] == pytest.approx([scores[word] for word, _ in found], rel=rel, abs=1e-5)


def test_products_and_distances_beyond_one_thread():
    rng = np.random.default_rng(0)
    table, targets = rng.standard_normal((3001, 50)).astype(np.float32), rng.standard_normal((3, 50)).astype(np.float32)
    np.testing.assert_allclose(products(table, targets), table @ targets.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(distances(table, targets[0]), np.linalg.norm(table - targets[0], axis=1), rtol=1e-5)
    locked = table.copy()
    locked.flags.writeable = False  # as a file that is mapped into memory
    np.testing.assert_array_equal(products(locked, targets), products(table, targets))


def test_the_numbers_of_gensim():
    """KeyedVectors of gensim 4.4: most_similar and most_similar_cosmul on the same vectors."""
    v = drawn(200, 10, 7)
    gensim = {
        "add": {"w161": 0.8598982095718384, "w166": 0.7026037573814392, "w159": 0.6855181455612183},
        "mul": {"w133": 2.7778584957122803, "w189": 2.3961069583892822, "w178": 2.2216055393218994},
    }
    for method, expected in gensim.items():
        found = v.most_similar(["w1", "w2"], ["w3"], 3, method)
        assert [word for word, _ in found] == list(expected) and dict(found) == pytest.approx(expected, rel=1e-6)


def test_equal_scores_come_in_the_order_of_the_words():
    v = WordVectors("abcdefgh", [[1, 0], [0, 1], [2, 0], [0, 1], [2, 0], [0, 1], [-1, 0], [2, 0]])
    for method in METHODS:
        assert [word for word, _ in v.most_similar("b", topn=2, method=method)] == ["d", "f"]
    assert [word for word, _ in v.most_similar("a", method="add")] == list("cehbdfg")
    rows = np.tile(np.random.default_rng(0).standard_normal(33), (5000, 1))
    many = WordVectors(map(str, range(5000)), rows)
    assert [word for word, _ in many.most_similar("2", topn=3)] == ["0", "1", "3"]


@given(st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=30), st.integers(1, 40))
def test_largest(scores, n):
    expected = [i for i in sorted(range(len(scores)), key=lambda i: -scores[i]) if scores[i] > -np.inf][:n]
    assert largest(np.array(scores), n).tolist() == expected


def test_a_term_may_be_a_vector():
    v = notes()
    target = v["king"] - v["man"] + v["woman"]
    assert v.most_similar(target, topn=1, method="euclidean")[0][0] == "queen"
    assert dict(v.most_similar([target], topn=6)).keys() == NOTES.keys()  # no word was given, none is left out


def test_a_row_of_zeros_is_near_to_nothing():
    v = WordVectors("abc", [[0, 0], [1, 0], [-1, 0]])
    assert v.most_similar("b") == [("a", 0.0), ("c", -1.0)]
    assert v.unit.tolist() == [[0, 0], [1, 0], [-1, 0]] and v.similarity("a", "b") == 0
    with pytest.raises(UserError, match="add up to nothing"):
        v.most_similar("a")
    with pytest.raises(UserError, match="add up to nothing"):
        v.most_similar("b", "b")


def test_large_and_small_numbers():
    assert WordVectors("abc", [[1e15, 0], [1e15, 1e14], [0, 1e-15]]).most_similar("a")[0][0] == "b"
    with pytest.raises(UserError, match=r"overflow in the vector of 'b' \(word 1\)"):
        WordVectors("ab", [[1, 0], [1e30, 0]])


# ------------------------------------------------------------------------------------------------ words


def test_look_up():
    v = notes()
    assert (len(v), v.dim, v.id("king")) == (6, 4, 2) and "king" in v and "pear" not in v
    np.testing.assert_array_equal(v[["queen", "man"]], np.array([NOTES["queen"], NOTES["man"]], np.float32))
    assert v[[]].shape == (0, 4)
    np.testing.assert_allclose(np.linalg.norm(v.unit, axis=1), 1, rtol=1e-6)
    assert v.unit is v.unit


def test_an_array_of_float32_is_not_copied():
    array = np.ones((3, 2), np.float32)
    assert np.shares_memory(WordVectors("abc", array).array, array)
    assert WordVectors("abc", array[:, ::-1]).array.flags.c_contiguous


def test_unknown_words_name_their_neighbours():
    v = notes()
    for word, said in (("King", "mean 'king'"), ("quen", "'queen'"), ("wmoan", "'woman'"), ("appple", "'apple'")):
        with pytest.raises(UserError, match=said):
            v[word]
    with pytest.raises(UserError, match="got the word 'xyzzy', expected one of the 6 words with a vector$"):
        v.most_similar(["king", "xyzzy"])
    assert notes().near("") == [] and notes().near("king" * 10**6) == []


class Grams:
    def vector(self, word):
        return np.full(4, len(word), np.float32)


def test_a_word_that_is_not_there_has_a_vector_from_its_ngrams():
    v = WordVectors(NOTES, list(NOTES.values()), subwords=Grams())
    assert v["pear"].tolist() == [4] * 4 and "pear" not in v
    assert len(v.most_similar("pear")) == 6
    with pytest.raises(UserError, match="'pear'"):
        v.id("pear")
    layer, found = v.embedding(["pear", "king"])
    assert layer([0]).tolist() == [[4] * 4]
    assert str(found) == "2 of 2 words have a vector (100.0%): 1 as they are, 1 from their n-grams"


def test_a_vocabulary_of_one():
    v = WordVectors(["only"], [[1.0, 2.0]])
    assert v.most_similar("only") == [] and v.most_similar(np.array([1.0, 0.0]))[0][0] == "only"


BAD = [
    ([], np.empty((0, 2)), "no words"),
    (["a", "b", "a"], np.ones((3, 2)), r"'a' twice \(the first is word 0\)"),
    (["a", ""], np.ones((2, 2)), "'' as word 1"),
    (["a", "b c"], np.ones((2, 2)), "'b c' as word 1"),
    (["a", "b\n"], np.ones((2, 2)), "white space"),
    ([0, "a"], np.ones((2, 2)), "0 as word 0"),
    (["a", "b"], np.ones((3, 2)), r"\(3, 2\)"),
    (["a", "b"], np.ones(2), r"\(2,\)"),
    (["a", "b"], np.ones((2, 0)), r"\(2, 0\)"),
    (["a", "b"], [[1, 2], [3]], "different lengths"),
    (["a", "b"], [["x", "y"], ["z", "z"]], "no numbers"),
    (["a", "b"], [[1, 2], [np.nan, 1]], r"NaN or Inf in the vector of 'b' \(word 1\)"),
    (["a", "b"], [[1, -np.inf], [1, 1]], "NaN or Inf in the vector of 'a'"),
    (["a", "b"], np.array([[1, 1e300], [1, 1]]), "NaN or Inf in the vector of 'a'"),
]


@pytest.mark.parametrize("words, array, said", BAD)
def test_bad_vectors(words, array, said):
    with pytest.raises(UserError, match=said):
        WordVectors(words, array)


def test_bad_counts():
    for counts in ([1], [1.5, 2.5], [[1, 2]]):
        with pytest.raises(UserError, match="counts"):
            WordVectors("ab", np.ones((2, 2)), counts)
    assert WordVectors("ab", np.ones((2, 2)), [3, 1]).counts.dtype == np.int64


def test_bad_questions():
    v = notes()
    for options, said in (({"topn": 0}, "topn 0"), ({"among": 0}, "among 0"), ({"method": "cosine"}, "euclidean")):
        with pytest.raises(UserError, match=said):
            v.most_similar("king", **options)
    for terms, said in (([], "no words"), (np.ones(3), "shape"), (np.full(4, np.nan), "NaN")):
        with pytest.raises(UserError, match=said):
            v.most_similar(terms)


# ------------------------------------------------------------------------------------------------ a layer


def test_a_layer_of_known_and_unknown_words():
    v = notes()
    layer, found = v.embedding(["King", "apple", "sat", "on"], generator=0)
    w = layer.weight.numpy()
    np.testing.assert_array_equal(w[:2], v[["king", "apple"]])
    assert np.abs(w[2:]).min() > 0 and np.abs(w[2:]).max() <= 1 / 8 and not np.array_equal(w[2], w[3])
    assert found == (4, 1, 1, 0, ("sat", "on")) and found.share == 0.5
    again, _ = v.embedding(["King", "apple", "sat", "on"], generator=0)
    np.testing.assert_array_equal(again.weight.numpy(), w)
    layer.weight.data[:] = 0
    assert v["king"].any()  # the layer has rows of its own
    for words in ([], "king"):
        with pytest.raises(UserError, match="a sequence of words"):
            v.embedding(words)


def test_a_layer_for_a_vocabulary():
    vocabulary = WordVocabulary.of("the king saw the queen", tokens="spaces")
    layer, found = notes().embedding(vocabulary, generator=0)
    assert layer.weight.shape == (6, 4) and found.total == 4 and found.missing == ("the", "saw")
    ids = vocabulary.encode("king queen")
    np.testing.assert_array_equal(layer(ids).numpy(), notes()[["king", "queen"]])


def test_a_long_list_of_missing_words_is_cut():
    _, found = notes().embedding([f"x{i}" for i in range(1200)])
    assert (
        str(found)
        == "0 of 1,200 words have a vector (0.0%); 1,200 not found: " + ", ".join(f"x{i}" for i in range(10)) + ", ..."
    )


class Model(mg.nn.Module):
    def __init__(self, freeze):
        self.embedding, _ = notes().embedding(["king", "queen"], freeze, generator=0)
        self.head = mg.nn.Linear(4, 1, generator=0)

    def forward(self, ids):
        return self.head(self.embedding(ids))


def step(model):
    optimiser = mg.optim.Adam(model.parameters(), lr=0.1)
    model.zero_grad()
    mg.square(model([0, 1])).sum().backward()
    optimiser.step()


def test_a_frozen_layer_does_not_learn_but_is_saved(tmp_path):
    model = Model(freeze=True)
    before = model.state_dict()
    assert list(before) == ["embedding.weight", "head.weight", "head.bias"]
    step(model)
    after = model.state_dict()
    np.testing.assert_array_equal(after["embedding.weight"], before["embedding.weight"])
    assert model.embedding.weight.grad is None and (after["head.weight"] != before["head.weight"]).all()
    mg.save(tmp_path / "m.safetensors", model)
    other = Model(freeze=True)
    other.embedding.weight.data = np.zeros((2, 4), np.float32)
    mg.load(tmp_path / "m.safetensors", into=other)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, after[name])
    learning = Model(freeze=False)  # the same file, into a model that learns all
    mg.load(tmp_path / "m.safetensors", into=learning)
    step(learning)
    assert (learning.state_dict()["embedding.weight"] != after["embedding.weight"]).all()


def test_a_layer_is_frozen_and_thawed():
    model = Model(freeze=True)
    model.embedding.requires_grad_(True)
    assert len(model.parameters()) == 3
    before = model.state_dict()
    step(model)
    assert (model.state_dict()["embedding.weight"] != before["embedding.weight"]).all()
    assert model.requires_grad_(False).parameters() == [] and len(model.state_dict()) == 3
    assert model.embedding.weight.grad is None
    with pytest.raises(ValueError, match="no parameter"):
        mg.optim.SGD(model.parameters(), lr=0.1)


def test_a_frozen_parameter_that_is_tied_keeps_its_name():
    model = Model(freeze=False)
    model.again = [model.embedding.weight]
    model.constant = mg.tensor([1.0])
    names = list(model.state_dict())
    model.embedding.requires_grad_(False)
    assert list(model.state_dict()) == names and "constant" not in names and len(model.parameters()) == 2
    model.embedding.weight = None
    assert list(model.state_dict()) == ["head.weight", "head.bias"]
