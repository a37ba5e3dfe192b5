"""Matrix products on the emulated device: by tiles, by tensor cores, and what cuBLAS would be asked for."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")

from minigrad.errors import ShapeError, UserError
from minigrad.kernels.cuda import cublas, matmul
from minigrad.kernels.cuda.tensor_cores import TENSOR_TILES
from minigrad.kernels.cuda.tiles import TILES
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim

SIZES = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 31, 32, 33, 37])
LAYOUTS = st.sampled_from(["rows", "columns", "cut", "every second", "backwards"])
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def device():
    return simt.device()


@pytest.fixture
def kind(monkeypatch):
    """Sets MINIGRAD_MATMUL."""
    return lambda name: monkeypatch.setattr(matmul, "config", replace(matmul.config, matmul=name))


@pytest.fixture
def chosen(monkeypatch):
    """Sets the tiles and the shares of k."""
    return lambda size, shares=1: monkeypatch.setattr(matmul, "choose", lambda *given: (size, shares))


def down(device, x):
    return device.download(x) if x.size else np.empty(x.shape, x.dtype)


def laid(device, x, layout):
    """The same numbers on the device, lying otherwise, with NaN wherever no number of x is."""
    *batch, m, n = x.shape
    if layout == "columns":
        axes = (*range(len(batch)), len(batch) + 1, len(batch))
        return device.put(np.ascontiguousarray(x.swapaxes(-1, -2))).transpose(axes)
    if layout == "cut":
        room = np.full((*batch, m + 2, n + 3), np.nan, x.dtype)
        room[..., 1 : m + 1, 1 : n + 1] = x
        return device.put(room).cut((..., slice(1, m + 1), slice(1, n + 1)))
    if layout == "every second":
        room = np.full((*batch, 2 * m, 2 * n), np.nan, x.dtype)
        room[..., ::2, ::2] = x
        return device.put(room).cut((..., slice(None, None, 2), slice(None, None, 2)))
    if layout == "backwards":
        return device.put(np.ascontiguousarray(x[..., ::-1, ::-1])).flip((x.ndim - 2, x.ndim - 1))
    return device.put(x)


def close(found, a, b):
    """Rounding of float32 or float64 sums of k products, against float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    allowed = (a.shape[-1] + 2) * np.finfo(found.dtype).eps * (np.abs(a) @ np.abs(b))
    assert found.shape == (a @ b).shape
    assert (np.abs(found - a @ b) <= allowed).all()


# ------------------------------------------------------------------------------------------------ by tiles


@given(SIZES, SIZES, SIZES, LAYOUTS, LAYOUTS, st.sampled_from(["float32", "float64"]), SEEDS)
def test_matrices_of_all_sizes_and_layouts(m, k, n, layout_a, layout_b, dtype, seed):
    device, random = simt.device(), np.random.default_rng(seed)
    a, b = random.standard_normal((m, k)).astype(dtype), random.standard_normal((k, n)).astype(dtype)
    x, y = laid(device, a, layout_a), laid(device, b, layout_b)
    found = down(device, matmul.matmul(device, x, y))
    assert found.dtype == a.dtype
    close(found, a, b)
    np.testing.assert_array_equal(found, down(device, matmul.matmul(device, x, y)))


BATCHES = [((), (3,)), ((3,), ()), ((2, 3), ()), ((3,), (3,)), ((2, 1), (3,)), ((2, 3), (2, 1)), ((0,), (1,)),
           ((2, 1, 2), (1, 3, 1)), ((1, 1), (1,))]  # fmt: skip


@given(st.sampled_from(BATCHES), st.integers(1, 6), st.integers(0, 6), st.integers(1, 6), LAYOUTS, LAYOUTS, SEEDS)
def test_batches_broadcast(batches, m, k, n, layout_a, layout_b, seed):
    device, random = simt.device(), np.random.default_rng(seed)
    a, b = random.standard_normal((*batches[0], m, k)), random.standard_normal((*batches[1], k, n))
    x, y = laid(device, a, layout_a), laid(device, b, layout_b)
    close(down(device, matmul.matmul(device, x, y)), a, b)


def test_batches_with_axes_in_any_order(device):
    """Heads of attention: (B, T, H, D) seen as (B, H, T, D)."""
    random = np.random.default_rng(0)
    q, k = random.standard_normal((2, 2, 5, 3, 4)).astype(np.float32)
    x, y = device.put(q).transpose((0, 2, 1, 3)), device.put(k).transpose((0, 2, 3, 1))
    close(down(device, matmul.matmul(device, x, y)), q.transpose(0, 2, 1, 3), k.transpose(0, 2, 3, 1))


def test_more_matrices_than_a_grid_has(device, monkeypatch):
    monkeypatch.setattr(matmul, "MOST", 5)
    random = np.random.default_rng(0)
    for batch in ((7,), (3, 4), (2, 6)):
        a, b = random.standard_normal((*batch, 2, 3)), random.standard_normal((*batch[:-1], 1, 3, 2))
        close(down(device, matmul.matmul(device, device.put(a), device.put(b))), a, b)


def test_more_columns_than_a_grid_has(device, monkeypatch):
    monkeypatch.setattr(matmul, "WIDE", 32)
    random = np.random.default_rng(0)
    for batch in ((), (2,), (3, 2, 2)):
        a, b = random.standard_normal((*batch, 2, 3)), random.standard_normal((*batch, 3, 70))
        close(down(device, matmul.matmul(device, device.put(a), device.put(b))), a, b)


def test_a_batch_into_columns_of_another_array(device):
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal(s) for s in ((3, 2, 4), (3, 4, 5), (3, 2, 9)))
    into = device.put(c)
    matmul.product_into(device, into.cut((..., slice(2, 7))), device.put(a), device.put(b))
    c[..., 2:7] = a @ b
    np.testing.assert_allclose(device.download(into), c, rtol=1e-12)


@pytest.mark.parametrize(("size", "dtype"), [(128, "float32"), (64, "float32"), (64, "float64")])
def test_larger_tiles(device, chosen, size, dtype):
    random = np.random.default_rng(size)
    chosen(size)
    m, k, n = size + 3, 19, size // 2 + 1
    a, b = random.standard_normal((m, k)).astype(dtype), random.standard_normal((k, n)).astype(dtype)
    close(down(device, matmul.matmul(device, device.put(a), laid(device, b, "columns"))), a, b)


@given(st.integers(1, 40), st.integers(0, 60), st.integers(1, 40), st.integers(1, 9), st.booleans(), SEEDS)
def test_into_rows_of_another_array_with_k_shared_out(m, k, n, shares, add, seed):
    device, random = simt.device(), np.random.default_rng(seed)
    a, b, c = (random.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n), (2 * m, n + 3)))
    into = device.put(c)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matmul, "choose", lambda *given: (32, shares))
        matmul.product_into(
            device, into.cut((slice(None, None, 2), slice(2, n + 2))), device.put(a), device.put(b), add
        )
    found = device.download(into)
    rows = c[::2, 2 : n + 2] * np.float32(add)
    close(found[::2, 2 : n + 2], np.hstack([a, np.eye(m, dtype=np.float32)]), np.vstack([b, rows]))  # A B + I C
    found[::2, 2 : n + 2] = c[::2, 2 : n + 2]
    np.testing.assert_array_equal(found, c)


@given(*[st.integers(1, 10**4)] * 3, st.integers(1, 300), st.integers(1, 200))
def test_choice_of_tiles(m, n, k, batches, processors):
    size, shares = matmul.choose(TILES, m, n, k, batches, processors)
    assert size in TILES and 1 <= shares <= max(1, k // matmul.SHARE)
    assert size == min(TILES) or min(m, n) > size // 2  # no tile is mostly empty
    assert shares == 1 or batches == 1
    blocks = -(-m // size) * -(-n // size) * batches
    assert blocks * (shares - 1) < processors  # no more shares than occupy the device
    assert size == min(TILES) or blocks * shares >= processors


def test_choice_of_tiles_of_known_sizes():
    assert matmul.choose(TILES, 4096, 4096, 1024, 1, 132) == (128, 1)
    assert matmul.choose(TILES, 1600, 10000, 100, 1, 132) == (128, 1)
    assert matmul.choose(TILES, 1024, 512, 8192, 1, 132) == (128, 5)  # a gradient of weights
    assert matmul.choose(TILES, 16, 2048, 512, 1, 132) == (32, 2)  # one step of a recurrence
    assert matmul.choose(TILES, 20, 20, 64, 128, 132) == (32, 1)


def test_errors(device, kind):
    x = device.put(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="one k"):
        matmul.matmul(device, x, x)
    with pytest.raises(ShapeError, match="leading sizes that broadcast"):
        matmul.matmul(device, device.put(np.ones((2, 2, 3))), device.put(np.ones((3, 3, 2))))
    kind("float16")
    with pytest.raises(UserError, match="MINIGRAD_MATMUL"):
        matmul.matmul(device, x, x.transpose((1, 0)))


# ------------------------------------------------------------------------------------------------ on tensor cores

ROUNDING = {"tf32": 2.0**-11, "bf16": 2.0**-8}  # of one number, at most


def rounded_close(kind, found, a, b):
    """Two roundings of each product, then sums in float32."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    relative = 2.1 * ROUNDING[kind] + (a.shape[-1] + 2) * np.finfo(np.float32).eps
    assert (np.abs(found - a @ b) <= relative * (np.abs(a) @ np.abs(b)) + 1e-30).all()


@pytest.mark.parametrize("name", TENSOR_TILES)
@given(SIZES, SIZES, SIZES, LAYOUTS, LAYOUTS, st.integers(1, 2), SEEDS)
def test_tensor_cores(name, m, k, n, layout_a, layout_b, shares, seed):
    device, random = simt.device(), np.random.default_rng(seed)
    a, b = random.standard_normal((m, k)).astype(np.float32), random.standard_normal((k, n)).astype(np.float32)
    x, y = laid(device, a, layout_a), laid(device, b, layout_b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matmul, "config", replace(matmul.config, matmul=name))
        patch.setattr(matmul, "choose", lambda *given: (64, shares))
        found = down(device, matmul.matmul(device, x, y))
        np.testing.assert_array_equal(found, down(device, matmul.matmul(device, x, y)))
    rounded_close(name, found, a, b)


@pytest.mark.parametrize("name", TENSOR_TILES)
@pytest.mark.parametrize("size", [64, 128])
def test_tensor_cores_are_exact_for_small_integers(device, kind, chosen, name, size):
    random = np.random.default_rng(0)
    kind(name)
    chosen(size)
    a, b, c = (random.integers(-9, 10, s).astype(np.float32) for s in ((70, 52), (52, 67), (70, 67)))
    into = device.put(c)
    matmul.product_into(device, into, device.put(a), laid(device, b, "columns"), add=True)
    np.testing.assert_array_equal(device.download(into), a @ b + c)
    np.testing.assert_array_equal(
        device.download(matmul.matmul(device, laid(device, a, "columns"), device.put(b))), a @ b
    )


def test_accuracy_as_documented(device, kind):
    """The figures of docs: the largest error of a product of standard normal numbers, relative to the largest."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 64, 64)).astype(np.float32)
    exact = a.astype(np.float64) @ b
    errors = {}
    for name in ("float32", *TENSOR_TILES):
        kind(name)
        found = device.download(matmul.matmul(device, device.put(a), device.put(b)))
        errors[name] = np.abs(found - exact).max() / np.abs(exact).max()
    assert errors["float32"] < 1e-6 < 1e-4 < errors["tf32"] < 1e-3 < errors["bf16"] < 1e-2


def test_tensor_cores_are_for_float32_and_where_there_are_any(device, kind, monkeypatch):
    kind("tf32")
    assert matmul.tiles(device, np.dtype("float32")) is TENSOR_TILES["tf32"]
    assert 128 not in matmul.tiles(device, np.dtype("float64"))
    monkeypatch.setattr(type(device), "capability", (7, 5))
    assert matmul.tiles(device, np.dtype("float32")) == TILES


@pytest.mark.parametrize("name", TENSOR_TILES)
def test_special_values_on_tensor_cores(device, kind, name):
    kind(name)
    a, b = np.ones((3, 4), np.float32), np.ones((4, 3), np.float32)
    a[0, 1], a[1, 2] = np.nan, np.inf
    found = device.download(matmul.matmul(device, device.put(a), device.put(b)))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found, a @ b)


# ------------------------------------------------------------------------------------------------ cuBLAS


class Recorded:
    """A library with the functions of cuBLAS that are asked for, on the host: NumPy does what the arguments say."""

    def __init__(self):
        self.calls = []
        for name, number in (("S", ctypes.c_float), ("D", ctypes.c_double)):

            def gemm(*given, number=number):
                self.calls.append(given)
                return self._product(number, *given)

            setattr(self, f"cublas{name}gemmStridedBatched", gemm)

    def cublasCreate_v2(self, handle):
        handle._obj.value = 7
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.stream = handle.value, stream.value
        return 0

    def _product(self, number, handle, op_a, op_b, m, n, k, alpha, a, lda, step_a, b, ldb, step_b, beta, c, ldc, step_c,
                 count):  # fmt: skip
        alpha, beta = number.from_address(alpha).value, number.from_address(beta).value
        size = ctypes.sizeof(number)

        def matrix(at, lead, rows, columns):
            assert lead >= max(rows, 1)
            room = np.ctypeslib.as_array((number * (lead * (columns - 1) + rows)).from_address(at))
            return np.lib.stride_tricks.as_strided(room, (rows, columns), (size, lead * size))

        for i in range(count):
            x = matrix(a + i * step_a * size, lda, *((m, k) if op_a == 0 else (k, m)))
            y = matrix(b + i * step_b * size, ldb, *((k, n) if op_b == 0 else (n, k)))
            z = matrix(c + i * step_c * size, ldc, m, n)
            product = alpha * (x if op_a == 0 else x.T) @ (y if op_b == 0 else y.T)
            z[...] = product + beta * z if beta else product
        return 0


@pytest.fixture
def library(device, kind, monkeypatch):
    found = Recorded()
    calls = cublas.Cublas(found, 5, lambda x: x.memory.bytes.ctypes.data + x.offset)
    monkeypatch.setattr(cublas, "of", lambda device: calls)
    monkeypatch.setattr(device, "name", "cuda", raising=False)
    kind("cublas")
    assert found.stream == (7, 5)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layouts", [(a, b) for a in ("rows", "columns", "cut") for b in ("rows", "columns", "cut")])
def test_arguments_for_cublas(device, library, dtype, layouts):
    random = np.random.default_rng(0)
    shapes = [((3, 4), (4, 5)), ((1, 4), (4, 5)), ((3, 1), (1, 5)), ((3, 4), (4, 1)), ((1, 1), (1, 1)),
              ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 5))]  # fmt: skip
    for left, right in shapes:
        a, b = random.standard_normal(left).astype(dtype), random.standard_normal(right).astype(dtype)
        x, y = laid(device, a, layouts[0]), laid(device, b, layouts[1])
        before = len(library.calls)
        close(down(device, matmul.matmul(device, x, y)), a, b)
        assert len(library.calls) > before


def test_cublas_adds_into_rows_and_leaves_what_it_cannot_take(device, library):
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal(s) for s in ((3, 4), (4, 5), (6, 5)))
    into = device.put(c)
    matmul.product_into(device, into.cut((slice(None, None, 2),)), device.put(a), device.put(b), add=True)
    c[::2] += a @ b
    np.testing.assert_allclose(device.download(into), c)
    done = len(library.calls)
    close(down(device, matmul.matmul(device, laid(device, a, "every second"), device.put(b))), a, b)
    with device.capture() as graph:
        matmul.product_into(device, into.cut((slice(3),)), device.put(a), device.put(b))
    graph.launch()
    close(device.download(into)[:3], a, b)
    assert len(library.calls) == done


def test_cublas_fails_with_its_status(library):
    library.cublasSetStream_v2 = lambda handle, stream: 13
    with pytest.raises(RuntimeError, match="status 13 from cublasSetStream_v2"):
        cublas.Cublas(library, 0, id)
