"""What the tests of recurrences share: both ways to run, kinds of layers, random problems, gradients of everything."""

import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad.engine.tree import leaves, tree_map

KINDS = {
    "rnn_tanh": (mg.nn.RNN, {}),
    "rnn_relu": (mg.nn.RNN, {"nonlinearity": "relu"}),
    "gru_before": (mg.nn.GRU, {}),
    "gru_after": (mg.nn.GRU, {"reset": "after"}),
    "gru_simple": (mg.nn.GRU, {"relevance": False}),
    "lstm": (mg.nn.LSTM, {}),
}


@pytest.fixture(scope="module", params=["definition", "compiled"], autouse=True)
def way(request):
    """Where a test file imports this, all its tests run twice: by the definition of ``scan``, and compiled."""
    scan = sys.modules["minigrad.compiler.scan"]
    kernel_of = scan.kernel_of
    if request.param == "definition":
        scan.kernel_of = lambda *args: "the test asks for the definition"
    yield request.param
    scan.kernel_of = kernel_of


class Poisoned:
    """NumPy, but that new memory is full of NaN."""

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=float):
        found = np.empty(shape, dtype)
        found.view(np.uint8)[...] = 255
        return found


@pytest.fixture(scope="module", autouse=True)
def poisoned():
    """Where a test file imports this, compiled passes start from memory in which everything unwritten shows."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("run", "arrays"):
            patch.setattr(sys.modules[f"minigrad.compiler.{name}"], "np", Poisoned())
        yield


every_kind = pytest.mark.parametrize("kind", KINDS)


class Sizes(NamedTuple):
    T: int
    B: int
    I: int
    H: int
    lengths: list[int]
    seed: int


@st.composite
def all_sizes(draw):
    T, B = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 17]))
    I, H = draw(st.sampled_from([1, 3, 9])), draw(st.sampled_from([1, 2, 5, 17, 33]))
    lengths = draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    return Sizes(T, B, I, H, lengths, draw(st.integers(0, 2**20)))


SMALL = Sizes(4, 3, 2, 3, [2, 4, 0], 5)


def build(kind, I, H, dtype=np.float64, **options):
    make, more = KINDS[kind]
    layer = make(I, H, **{"generator": 0, **more, **options})
    for p in layer.parameters():
        p.data = p.data.astype(dtype)
    return layer


def problem(kind, s, dtype=np.float64, **options):
    """A layer, an input and a non-zero state."""
    layer, rng = build(kind, s.I, s.H, dtype, generator=s.seed, **options), np.random.default_rng(s.seed)
    shape = (layer.num_layers * (1 + layer.bidirectional), s.B, s.H)
    state = [mg.tensor(rng.standard_normal(shape).astype(dtype)) for _ in range(layer.states)]
    x = mg.tensor(rng.standard_normal((s.T, s.B, s.I)).astype(dtype))
    return layer, x, tuple(state) if layer.states == 2 else state[0]


def gradients(layer, x, state, lengths=None, gs=None, seed=0):
    """Results, and cotangents of x, the states and the parameters for random cotangents of the results."""
    names = [name for name, _ in layer.named_parameters()]
    own = layer.parameters()

    def f(x, state, parameters):
        for name, p in zip(names, parameters):
            setattr(layer, name, p)
        return layer(x, state, lengths)

    out, pull = mg.vjp(f, x, state, own)
    for name, p in zip(names, own):
        setattr(layer, name, p)
    if gs is None:
        rng = np.random.default_rng(seed)
        gs = tree_map(lambda y: mg.tensor(rng.standard_normal(y.shape).astype(y.dtype)), out)
    return leaves(out), leaves(pull(gs))


def assert_close(got, expected, tolerance=1e-12):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def padding(s):
    """True behind the length of a row (T, B)."""
    return np.arange(s.T)[:, None] >= np.array(s.lengths)
