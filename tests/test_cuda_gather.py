"""Reading and adding at positions, on the emulated device: equal to the CPU's, to the last bit where sums are short."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import cpu, named

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")
from minigrad.kernels.cuda.gather import PIECE
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim
simt.device()
K = named("cuda-sim")
DTYPES = st.sampled_from([np.float32, np.float64])
SIZES = st.integers(1, 6)


def drawn(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def tables(draw):
    """A table (V, ...) and positions of it, also none, of any integer type."""
    shape = (draw(SIZES), *draw(st.sampled_from([(), (1,), (3,), (4,), (8,), (130,), (132,), (2, 3), (0,)])))
    at = draw(st.sampled_from([(0,), (1,), (7,), (2, 3), (), (PIECE + 1,)]))
    dtype = draw(st.sampled_from([np.int64, np.int32, np.uint8, np.uint64]))
    seed = draw(st.integers(0, 99))
    positions = np.random.default_rng(seed).integers(0, shape[0], at).astype(dtype)
    return drawn(seed, shape, draw(DTYPES)), np.asarray(positions)


@given(tables())
def test_take(case):
    x, positions = case
    for axis in range(x.ndim):
        if x.shape[axis]:
            at = positions % x.shape[axis]
            np.testing.assert_array_equal(K.to_numpy(K.take(K.from_numpy(x), at, axis)), cpu.take(x, at, axis))


@given(tables())
def test_rows_are_added_in_the_order_of_the_positions(case):
    """A sum of up to PIECE rows has the CPU's bits; longer ones have their own, the same ones every time."""
    x, positions = case
    rows, g = len(x), drawn(1, positions.shape + x.shape[1:], x.dtype)
    found = K.to_numpy(K.add_rows(K.from_numpy(g), positions, rows))
    expected = cpu.add_rows(g, positions, rows)
    few = np.bincount(positions.ravel(), minlength=rows) <= PIECE
    np.testing.assert_array_equal(found[few], expected[few])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_memory_in_which_four_neighbours_may_not_be_read_at_once(first, dtype):
    x, at = drawn(0, 4 + 3 * 8, dtype), np.array([2, 0, 2])
    part, d = x[first : first + 24].reshape(3, 8), K.from_numpy(x).cut((slice(first, first + 24),)).reshape((3, 8))
    np.testing.assert_array_equal(K.to_numpy(K.take(d, at, 0)), part[at])
    np.testing.assert_array_equal(K.to_numpy(K.add_rows(d, at, 3)), cpu.add_rows(part, at, 3))


def test_plain_indices_copy_nothing():
    x = K.from_numpy(drawn(0, (3, 4)))
    for index in (1, slice(1, 3), (slice(None), 2), (..., None), (slice(None, None, -1), slice(0, 4, 2))):
        assert K.getitem(x, index).memory is x.memory


@pytest.mark.parametrize("repeats", [PIECE, PIECE + 1, PIECE**2, PIECE**2 + 1])
@pytest.mark.parametrize("width", [1, 4])
def test_a_row_that_nearly_all_positions_name(repeats, width):
    positions = np.random.default_rng(0).permutation(np.repeat([2, 0, 4], [repeats, 1, 2]))
    g = drawn(repeats, (len(positions), width))
    found = [K.to_numpy(K.add_rows(K.from_numpy(g), positions, 5)) for _ in range(2)]
    np.testing.assert_allclose(found[0], cpu.add_rows(g.astype(np.float64), positions, 5), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("rows", [2**16, 2**16 + 1])
def test_positions_of_more_than_16_bits(rows):
    positions = np.array([rows - 1, 0, 3, rows - 1])
    g = drawn(0, (4, 1))
    found = K.to_numpy(K.add_rows(K.from_numpy(g), positions, rows))
    np.testing.assert_array_equal(found, cpu.add_rows(g, positions, rows))


@given(st.lists(SIZES, min_size=1, max_size=3), DTYPES)
def test_pick_and_place(shape, dtype):
    x = drawn(1, shape, dtype)
    positions = np.asarray(np.random.default_rng(2).integers(0, shape[-1], shape[:-1]))
    found, expected = K.pick(K.from_numpy(x), positions), cpu.pick(x, positions)
    np.testing.assert_array_equal(K.to_numpy(found), expected)
    np.testing.assert_array_equal(K.to_numpy(K.place(found, positions, 9)), cpu.place(expected, positions, 9))


INDICES = [
    2, -1, slice(None, None, 2), slice(3, None, -1), (..., 0), (None, 1, slice(0, 0)), (slice(None), slice(1, 3), None),
    np.array([3, 0, 3]), np.array([[-1], [2]]), np.zeros(0, int), (np.array([0, 1, 1]), np.array([2, 0, 0])),
    (slice(None), np.array([1, 1])), (np.array([1, 1]), slice(None), 0), (0, ..., np.array([3, 3])),
    np.arange(4) % 2 == 0, np.arange(12).reshape(4, 3) % 5 == 0, (..., np.arange(4) > 1), True, np.False_,
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_indices_read_and_scatter_as_in_numpy(index, transposed):
    x = drawn(0, (4, 3, 4))
    d = K.from_numpy(x)
    if transposed:
        x, d = x.transpose(2, 1, 0), d.transpose((2, 1, 0))
    found = K.getitem(d, index)
    np.testing.assert_array_equal(K.to_numpy(found), x[index])
    g = drawn(1, x[index].shape)
    found = K.scatter(K.from_numpy(g), index, x.shape)
    np.testing.assert_array_equal(K.to_numpy(found), cpu.scatter(g, index, x.shape))


@pytest.mark.parametrize("index", [4, (0, 0, 0, 0), np.array([4]), np.zeros(3, bool), (np.array([0]),) * 4], ids=str)
def test_an_index_outside_is_an_error(index):
    with pytest.raises(IndexError):
        K.getitem(K.from_numpy(drawn(0, (4, 3, 4))), index)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_gradient_of_an_embedding(sparse):
    """On a device it is dense, also where the few rows that were read would do."""

    def run(device):
        layer = nn.Embedding(5, 4, sparse=sparse, generator=0).to(device)
        e = layer(np.array([[1, 4], [1, 1]]))
        e.backward(mg.tensor(drawn(1, (2, 2, 4)), device=device))
        assert layer.weight.grad.device == device
        optim.SGD([layer.weight], 0.1).step()
        return e.numpy(), layer.weight.grad.numpy(), layer.weight.numpy()

    for found, expected in zip(run("cuda-sim"), run("cpu")):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
