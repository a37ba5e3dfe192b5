"""minigrad embed plot: pictures, the page, and what is refused."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cli_cases import fails, folder_fixture, run, snapshot, without_matplotlib_fixture  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from test_look import drawn

from minigrad import viz
from minigrad.models.embed.page import nearest, page

NASTY = ["</script>", "<b>bold</b>", "<!--", "-->", "&lt;", "$x_1$", "'\"`", "\\n", "@data", "@title", "${1}", "\u2028"]


class Reader(HTMLParser):
    """The elements of a page, what each script and the heading hold, and what is loaded from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.held, self.loaded = [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [v for k, v in attributes if k in ("src", "href", "srcset", "action")]

    def handle_data(self, data):
        self.held.setdefault(self.tags[-1] if self.tags else "", []).append(data)

    @property
    def data(self):
        return json.loads(self.held["script"][0])


@pytest.fixture(name="vectors")
def vectors_fixture(folder):
    rng = np.random.default_rng(0)
    words = [f"{kind}{k}" for k in range(20) for kind in ("cat", "dog", "tree")]
    places = 5 * rng.standard_normal((3, 8))
    write("v.txt", words, np.tile(places, (20, 1)) + rng.standard_normal((60, 8)))
    return "v.txt"


def write(name, words, array):
    rows = (" ".join([w, *(f"{x:.6f}" for x in row)]) for w, row in zip(words, array))
    Path(name).write_text(f"{len(words)} {array.shape[1]}\n" + "\n".join(rows) + "\n", encoding="utf-8")


def plot(*arguments):
    return run("embed", "plot", *arguments)


# ------------------------------------------------------------------------------------------------ pictures


def test_pictures_are_drawn_and_not_blank(vectors):
    from matplotlib.image import imread

    shown = plot(vectors, "--out", "a.png").stdout
    assert shown.startswith("drew 60 words of v.txt by t-SNE (perplexity 19.7, KL 0.") and shown.endswith(": a.png\n")
    plot(vectors, "--method", "pca", "--most", 30, "--out", "b.svg")
    for name in ("a.png", "b.svg"):
        drawn(name)
    image = imread("a.png")[..., :3]
    assert 0.001 < (image < 0.5).any(2).mean() < 0.2
    assert Path("b.svg").read_bytes().count(b"<!-- ") >= 30


def test_a_seed_repeats_to_the_bit(vectors):
    for name, seed in (("a.html", 1), ("b.html", 1), ("c.html", 2)):
        plot(vectors, "--seed", seed, "--out", name)
    a, b, c = (Path(name).read_bytes() for name in ("a.html", "b.html", "c.html"))
    assert a == b != c


def test_names_cover_nothing():
    from matplotlib.text import Text

    xy = np.random.default_rng(0).standard_normal((80, 2))
    ax = viz.grid(width=9, height=7)[1][0]
    names = [f"name {k}" for k in range(80)]
    left_out, no_letters = viz.names_beside(ax, xy, names)
    assert len(left_out) < 8 and not no_letters and len(ax.texts) == 80 - len(left_out)
    ax.figure.draw_without_rendering()
    boxes = np.array([Text.get_window_extent(text).extents for text in ax.texts])  # (N, 4)
    meet = ((boxes[:, None, :2] < boxes[None, :, 2:]) & (boxes[None, :, :2] < boxes[:, None, 2:])).all(2)
    assert (meet == np.eye(len(boxes), dtype=bool)).all()
    dots = ax.transData.transform(xy)[:, None]  # (N, 1, 2)
    assert not ((boxes[:, :2] < dots) & (dots < boxes[:, 2:])).all(2).any()
    frame = ax.bbox.extents
    assert (boxes[:, :2] >= frame[:2]).all() and (boxes[:, 2:] <= frame[2:]).all()


def test_names_without_room_and_letters_without_a_picture(folder):
    words = [f"w{k}" for k in range(100)] + ["猫", "a\x07b"]
    write("v.txt", words, np.ones((102, 2)))
    for method in ("tsne", "pca"):
        shown = plot("v.txt", "--out", "a.svg", "--method", method)
        drawn("a.svg")
    said = shown.stderr
    assert "no room for the names of" in said and "w99" not in said
    assert "the font lacks letters of 2 words: 猫, a\x07b; an .html shows them" in said


def test_words_that_mean_something_to_others_are_drawn(folder):
    words = [w for w in NASTY if not w.isspace()]
    write("v.txt", words, np.random.default_rng(0).standard_normal((len(words), 3)))
    for name in ("a.png", "a.svg"):
        plot("v.txt", "--out", name)
        drawn(name)


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_holds_the_words_their_places_and_neighbours(vectors):
    plot(vectors, "--out", "a.html")
    found = Reader(Path("a.html").read_text())
    assert found.loaded == [] and found.data["words"][:3] == ["cat0", "dog0", "tree0"]
    assert np.isfinite(found.data["points"]).all() and len(found.data["points"]) == 60
    for i, near in enumerate(found.data["near"]):
        assert len(near) == 8 and all(j % 3 == i % 3 for j, _ in near)
        assert [c for _, c in near] == sorted((c for _, c in near), reverse=True)
    assert found.held["h1"][0].startswith("60 words of v.txt by t-SNE")


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.text())
def test_words_are_data_and_never_markup(words, title):
    words = NASTY + words
    plain = Reader(page("t", ["a"], [[0, 0]], [[]]))
    found = Reader(page(title, words, np.zeros((len(words), 2)), [[] for _ in words]))
    assert found.tags == plain.tags and found.data["words"] == words
    assert found.held["script"][1:] == plain.held["script"][1:]


def test_neighbours_by_cosine():
    x = np.random.default_rng(0).standard_normal((20, 4))
    cosines = x @ x.T / np.outer(*[np.linalg.norm(x, axis=1)] * 2)
    np.fill_diagonal(cosines, -2)
    for i, near in enumerate(nearest(x, 5)):
        assert [j for j, _ in near] == np.argsort(-cosines[i])[:5].tolist()
        assert [c for _, c in near] == pytest.approx(np.sort(cosines[i])[::-1][:5], abs=6e-4)
    assert nearest(np.zeros((2, 3))) == [[(1, 0.0)], [(0, 0.0)]] and nearest(np.ones((1, 3))) == [[]]


# ------------------------------------------------------------------------------------------------ words and bad input


def test_which_words(vectors):
    Path("some.txt").write_text("dog1 cat1\n tree2  dog1\n")
    for words, expected in (("cat3, dog3 ,cat3", ["cat3", "dog3"]), ("some.txt", ["dog1", "cat1", "tree2"])):
        plot(vectors, "--words", words, "--out", "a.html")
        assert Reader(Path("a.html").read_text()).data["words"] == expected
    plot(vectors, "--most", 7, "--out", "a.html")
    assert len(Reader(Path("a.html").read_text()).data["words"]) == 7


BAD = {
    ("v.txt", "--words", "cat1,zebra,gnu"): "got 'zebra', 'gnu', expected words of the 60 in v.txt",
    ("v.txt", "--words", "cat1,dogg1"): "did you mean 'dog1' or 'dog11'?",
    ("v.txt", "--words", "cat1"): "1 word, expected two",
    ("v.txt", "--words", " , "): "0 words",
    ("v.txt", "--words", "nowhere.txt"): "'nowhere.txt'",
    ("v.txt", "--words", "latin.txt"): "UTF-8",
    ("v.txt", "--words", "cat1,dog1", "--most", "5"): "one of the two",
    ("v.txt", "--most", "1"): "most",
    ("v.txt", "--perplexity", "60"): "perplexity 60, expected 1 to 59 for 60 points",
    ("v.txt", "--perplexity", "nan"): "perplexity nan",
    ("v.txt", "--perplexity", "5", "--method", "pca"): "one of the two",
    ("v.txt", "--method", "umap"): "umap",
    ("nowhere.vec",): "nowhere.vec",
    ("empty.txt",): "empty.txt",
    ("v.txt", "--out", "new.gif"): "expected one of .png, .svg, .html",
    ("v.txt", "--out", "nowhere/new.html"): "no folder",
    ("v.txt", "--out", "folder.html"): "a folder",
}


def test_bad_input(vectors):
    Path("folder.html").mkdir()
    Path("latin.txt").write_bytes(b"caf\xe9")
    Path("empty.txt").touch()
    before = snapshot(Path())
    for arguments, said in BAD.items():
        out = () if "--out" in arguments else ("--out", "new.png")
        assert said in fails("embed", "plot", *arguments, *out), arguments
    assert "--out" in fails("embed", "plot", "v.txt")
    assert snapshot(Path()) == before


def test_the_page_needs_no_matplotlib(vectors, without_matplotlib):
    assert "pip install 'minigrad[plot]'" in fails("embed", "plot", vectors, "--out", "a.png")
    plot(vectors, "--out", "a.html")
