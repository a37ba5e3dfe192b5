"""Every planted fault of a kernel is found, in whatever order the threads run, and named with its place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")

from minigrad.kernels.cuda.language import grid_barrier, group_barrier, load4
from minigrad.testing import simt
from minigrad.testing.simt import cuda
from minigrad.testing.simt.memory import Place, commit_copies, wait_copies

pytestmark = pytest.mark.cuda_sim
F, FULL = np.float32, 0xFFFFFFFF
SEEDS = (None, 0, 1, 2)


@pytest.fixture(params=SEEDS)
def seed(request):
    return request.param


def zeros(*shape, dtype=F):
    return np.zeros(shape, dtype)


def find(error, match, kernel, grid, block, *args, **options):
    with pytest.raises(error, match=match) as found:
        simt.run(kernel, grid, block, *args, **{"races": True, **options})
    return str(found.value)


def test_grids_larger_than_a_gpu_takes():
    for grid in ((1, 65536), (1, 1, 65536), (2**31,)):
        with pytest.raises(ValueError, match="blocks at most"):
            simt.run(lambda: None, grid, 1)


# ------------------------------------------------------------------------------------------------ races


def test_a_dropped_barrier(seed):
    def kernel(x, out):
        s = cuda.shared.array(64, F)
        i = cuda.threadIdx.x
        s[i] = x[i]
        # the barrier that belongs here
        out[i] = s[63 - i]

    found = find((simt.RaceError, simt.UnwrittenError), r"shared array s\[", kernel, 1, 64, zeros(64), zeros(64),
                 seed=seed)  # fmt: skip
    assert "block 0, thread" in found and "test_simt_faults.py" in found and "out[i] = s[63 - i]" in found


def test_a_loop_that_forgets_its_last_barrier(seed):
    def kernel(x, out):
        s = cuda.shared.array(64, F)
        i = cuda.threadIdx.x
        for k in range(3):
            s[i] = x[k, i]
            cuda.syncthreads()
            out[k, i] = s[(i + 1) % 64]  # another thread may already be one round further

    found = find(simt.RaceError, "no barrier orders the two", kernel, 1, 64, zeros(3, 64), zeros(3, 64), seed=seed)
    assert "writes it" in found and "read it" in found


def test_a_missing_syncwarp(seed):
    def kernel(x, out, wait):
        s = cuda.shared.array(32, F)
        i = cuda.laneid
        s[i] = x[i]
        cuda.shfl_sync(FULL, 0, 0)  # lets all lanes come here, and promises nothing of memory
        if wait:
            cuda.syncwarp()
        out[i] = s[i ^ 1]

    find(simt.RaceError, "shared array", kernel, 1, 32, zeros(32), zeros(32), False, seed=seed)
    simt.run(kernel, 1, 32, zeros(32), zeros(32), True, races=True, seed=seed)


def test_a_syncwarp_is_none_between_warps_or_outside_of_its_mask(seed):
    def between(x):
        s = cuda.shared.array(64, F)
        s[cuda.threadIdx.x] = x[cuda.threadIdx.x]
        cuda.syncwarp()
        x[cuda.threadIdx.x] = s[63 - cuda.threadIdx.x]

    def outside(x):
        s = cuda.shared.array(32, F)
        i = cuda.laneid
        s[i] = x[i]
        cuda.syncwarp(0xFFFF if i < 16 else 0xFFFF0000)
        x[i] = s[(i + 8) % 32]

    for kernel, n in ((between, 64), (outside, 32)):
        find((simt.RaceError, simt.UnwrittenError), "shared array", kernel, 1, n, zeros(n), seed=seed)


@pytest.mark.parametrize("barrier", ["no", "block", "group"])
def test_a_race_of_blocks_for_global_memory(seed, barrier):
    def kernel(x, counters):
        x[cuda.grid(1)] = F(cuda.grid(1))
        if barrier == "group":
            group_barrier(counters, cuda.blockIdx.x // 2, 2, 2)
        elif barrier == "block":
            cuda.syncthreads()
        x[cuda.grid(1)] += x[(cuda.grid(1) + 8) % cuda.gridsize(1)]

    found = find(simt.RaceError, r"a race for x\[", kernel, 4, 4, zeros(16), zeros(2, dtype=np.uint32), seed=seed)
    assert len({line.split(",")[0] for line in found.splitlines() if "block" in line}) >= 2


def test_two_writers_of_different_values_race_and_of_one_value_do_not(seed):
    def kernel(x, value):
        x[0] = value if cuda.threadIdx.x else 1

    find(simt.RaceError, "wrote it", kernel, 1, 2, zeros(1), 2, seed=seed)
    simt.run(kernel, 1, 64, zeros(1), 1, races=True, seed=seed)


def test_an_atomic_beside_a_plain_access_and_a_missing_fence(seed):
    def plain(x):
        cuda.atomic.add(x, 0, F(1))
        if cuda.threadIdx.x == 3:
            x[0] = F(7)

    def unfenced(x, flag, out):
        if cuda.blockIdx.x == 0:
            x[0] = F(1)
            cuda.atomic.exch(flag, 0, 1)
        else:
            while cuda.atomic.cas(flag, 0, 1, 1) == 0:
                pass
            out[0] = x[0]

    find(simt.RaceError, r"x\[0\]", plain, 1, 4, zeros(1), seed=seed)
    find(simt.RaceError, r"x\[0\]", unfenced, 2, 1, zeros(1), zeros(1, dtype=np.int32), zeros(1), seed=seed)


# ------------------------------------------------------------------------------------------------ memory


def test_reads_of_what_nobody_wrote():
    def shared(out):
        s = cuda.shared.array(4, np.int32)
        if cuda.threadIdx.x:
            s[cuda.threadIdx.x] = 1
        cuda.syncthreads()
        out[cuda.threadIdx.x] = s[cuda.threadIdx.x]

    def local(out):
        a = cuda.local.array(3, np.int32)
        a[0] = 1
        out[0] = a[0] + a[2]

    def dynamic(out):
        out[0] = cuda.shared.array(0, np.int32)[1]

    assert "thread 0" in find(simt.UnwrittenError, r"\[0\] is read, and nobody", shared, 1, 4, zeros(4))
    find(simt.UnwrittenError, r"local array a\[2\]", local, 1, 1, zeros(1))
    find(simt.UnwrittenError, r"dynamic shared memory\[1\]", dynamic, 1, 1, zeros(1), shared=8)
    out = zeros(1)
    simt.run(dynamic, 1, 1, out, shared=8)
    assert out[0] not in (0, 1)  # poisoned where it is not watched


@pytest.mark.parametrize("races", [False, True])
@pytest.mark.parametrize(
    ("index", "message"),
    [(8, r"x\[8\] is outside of its shape \(8,\)"), (-1, "negative index"), ((1, 2), "1 axes"), (1.5, "whole number")],
)
def test_accesses_outside(index, message, races):
    def reads(x, out):
        out[0] = x[index]

    def writes(out, x):
        x[index] = out[0]

    for kernel in (reads, writes):
        found = find(simt.BoundsError, message, kernel, 1, 1, zeros(8), zeros(8), races=races)
        assert f"[{kernel.__name__}] block 0, thread 0, test_simt_faults.py:" in found


@pytest.mark.parametrize("races", [False, True])
def test_accesses_outside_of_two_axes_and_of_a_part(races):
    def kernel(x, i, j):
        x[i, j] = 1

    def part(x, i, j):
        x[1, 1:][j] = 1

    find(simt.BoundsError, r"x\[0, 3\] is outside of its shape \(2, 3\)", kernel, 1, 1, zeros(2, 3), 0, 3, races=races)
    find(simt.BoundsError, r"x\[1, -1\].*negative", kernel, 1, 1, zeros(2, 3), 1, -1, races=races)
    find(simt.BoundsError, r"x\[2\] is outside", part, 1, 1, zeros(2, 3), 0, 2, races=races)


def test_a_reshape_that_would_be_a_copy():
    def kernel(x):
        x.T.reshape(6)[0] = 1

    find(simt.BoundsError, "x is not contiguous", kernel, 1, 1, zeros(2, 3))


def test_neighbours_that_are_not_aligned():
    def kernel(x, i):
        load4(x, i)

    def shared(x, i):
        load4(cuda.shared.array(8, F), i)

    find(simt.BoundsError, "aligned", kernel, 1, 1, zeros(8), 2)
    find(simt.BoundsError, "outside", kernel, 1, 1, zeros(8), 8)
    find(simt.BoundsError, "outside", kernel, 1, 1, zeros(6), 4)
    find(simt.BoundsError, "aligned to 4 bytes only", shared, 1, 1, zeros(8), 4)


def test_too_much_shared_memory_and_writes_to_constants():
    def large(x):
        cuda.shared.array(20_000, F)

    def constant(x):
        cuda.const.array_like(np.zeros(2, F))[0] = 1

    find(simt.BoundsError, "80000 bytes of shared arrays", large, 1, 1, zeros(1))
    find(simt.BoundsError, "constant", constant, 1, 1, zeros(1))


def copying(x, out, wait, barrier):
    """Rows of x go through shared memory while the row before is used."""
    s = cuda.shared.array((2, 32), F, 16)
    i = cuda.threadIdx.x
    rows = x.shape[0]
    for row in range(rows + 1):
        if row < rows and i < 8:
            Place(s, (row % 2, 4 * i)).copy_async(Place(x, (row, 4 * i)), 16)
        if i < 8:
            commit_copies()
        if row:
            if i < 8 and wait:
                wait_copies(1)
            if barrier != "after the copy":
                cuda.syncthreads()
            out[row - 1, i] = s[(row - 1) % 2, 31 - i]
            if barrier != "before the next":
                cuda.syncthreads()


def test_asynchronous_copies(seed):
    x, out = np.arange(128, dtype=F).reshape(4, 32), zeros(4, 32)
    simt.run(copying, 1, 32, x, out, True, "", seed=seed, races=True)
    np.testing.assert_array_equal(out, x[:, ::-1])
    find(simt.UnwrittenError, "copy to it is on its way", copying, 1, 32, x, out, False, "", seed=seed)
    for barrier in ("after the copy", "before the next"):
        find((simt.RaceError, simt.UnwrittenError), "shared array", copying, 1, 32, x, out, True, barrier, seed=seed)
    simt.run(copying, 1, 32, x, out, False, "", seed=seed)
    assert np.isnan(out).any()  # poisoned where it is not watched


# ------------------------------------------------------------------------------------------------ divergence


def test_barriers_that_not_all_threads_reach(seed):
    def lines(x):
        if cuda.threadIdx.x < 5:
            cuda.syncthreads()
        else:
            cuda.syncthreads()

    def exits(x):
        if cuda.threadIdx.x < 5:
            return
        cuda.syncthreads()

    found = find(simt.DivergenceError, "different barriers", lines, 1, 40, zeros(1), seed=seed)
    assert found.count("cuda.syncthreads()") == 2
    assert "35 of 40" in find(simt.DivergenceError, "have ended", exits, 1, 40, zeros(1), seed=seed)


def test_warp_functions_that_not_all_lanes_reach(seed):
    def missing(x):
        if cuda.laneid < 20:
            x[cuda.laneid] = cuda.shfl_sync(FULL, F(1), 0)
        else:
            cuda.syncthreads()

    def mask(x):
        x[cuda.laneid] = cuda.ballot_sync(0xFFFF, 1)

    def masks(x):
        cuda.syncwarp(FULL if cuda.laneid else 1)
        cuda.syncthreads()

    found = find(simt.DivergenceError, "not all lanes", missing, 1, 32, zeros(32), seed=seed)
    assert "shfl_sync with the mask 0xffffffff: lanes [0, 1, 2" in found and "lane 20 is at" in found
    find(simt.DivergenceError, "lane [0-9]+ itself is not", mask, 1, 32, zeros(32), seed=seed)
    find(simt.DivergenceError, "not all lanes", masks, 1, 32, zeros(1), seed=seed)


def test_barriers_that_not_all_blocks_reach(seed):
    def grid(x, counters):
        if cuda.blockIdx.x != 2:
            cuda.cg.this_grid().sync()

    def group(x, counters):
        group_barrier(counters, cuda.blockIdx.x // 2, 2, 2)  # the last block is alone

    def target(x, counters):
        for _ in range(2):
            grid_barrier(counters, cuda.gridDim.x)  # the second time twice as much

    def rounds(x, counters):
        for k in range(1 + cuda.blockIdx.x % 2):
            group_barrier(counters, cuda.blockIdx.x // 2, 2, 2 * (k + 1))

    counters = lambda: zeros(4, dtype=np.uint32)
    found = find(simt.DivergenceError, "2 of 3 blocks wait", grid, 3, 4, zeros(1), counters(), seed=seed)
    assert "1 blocks have ended" in found
    find(simt.DivergenceError, "1 of 2 blocks wait for group_barrier", group, 3, 4, zeros(1), counters(), seed=seed)
    find(simt.DivergenceError, "target 3; the 3 blocks have made the counter 6", target, 3, 4, zeros(1), counters())
    find(simt.DivergenceError, "1 of 2 blocks", rounds, 4, 4, zeros(1), counters(), seed=seed)


def test_kernels_that_do_not_end():
    def barriers(x):
        while True:
            cuda.syncthreads()

    def lock(x):
        while cuda.atomic.cas(x, 0, 1, 1) == 0:
            pass

    found = find(simt.EndlessError, "10000 switches", barriers, 1, 40, zeros(1), limit=10_000, races=False)
    assert "cuda.syncthreads()" in found
    find(simt.EndlessError, "10000 switches", lock, 2, 4, zeros(1, dtype=np.int32), limit=10_000)


# ------------------------------------------------------------------------------------------------ other errors


def test_errors_of_python_say_where_and_arguments_are_checked():
    def kernel(x):
        x[0] = 1 // cuda.threadIdx.x

    with pytest.raises(ZeroDivisionError) as found:
        simt.run(kernel, 1, 1, zeros(1))
    assert "block 0, thread 0, test_simt_faults.py" in found.value.__notes__[0]
    with pytest.raises(ValueError, match="1024"):
        simt.run(kernel, 1, 1025, zeros(1))
    with pytest.raises(ValueError, match="1 to 3 sizes"):
        simt.run(kernel, (1, 0), 1, zeros(1))
    with pytest.raises(TypeError, match="takes 1 arguments, 2 given"):
        simt.run(kernel, 1, 1, zeros(1), 2)


# ------------------------------------------------------------------------------------------------ by chance


def transpose(x, out, barrier):
    s = cuda.shared.array((8, 9), F)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    row, column = cuda.blockIdx.y * 8 + i, cuda.blockIdx.x * 8 + j
    if row < x.shape[0] and column < x.shape[1]:
        s[i, j] = x[row, column]
    if barrier:
        cuda.syncthreads()
    row, column = cuda.blockIdx.x * 8 + i, cuda.blockIdx.y * 8 + j
    if row < out.shape[0] and column < out.shape[1]:
        out[row, column] = s[j, i]


def scan(x, out, barrier):
    """Hillis and Steele: the odd rounds read what the even ones wrote."""
    s = cuda.shared.array((2, 64), F)
    i, n = cuda.threadIdx.x, x.shape[0]
    s[0, i] = x[i]
    cuda.syncthreads()
    step, side = 1, 0
    while step < n:
        s[1 - side, i] = s[side, i] + (s[side, i - step] if i >= step else F(0))
        if barrier:
            cuda.syncthreads()
        step, side = 2 * step, 1 - side
    out[i] = s[side, i]


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_transposes_need_their_barrier(m, n, seed):
    x = np.random.default_rng(seed).normal(size=(m, n)).astype(F)
    out, grid = zeros(n, m), (-(-n // 8), -(-m // 8))
    simt.run(transpose, grid, (8, 8), x, out, True, seed=seed, races=True)
    np.testing.assert_array_equal(out, x.T)
    if max(m, n) > 1:
        faults = simt.RaceError, simt.UnwrittenError
        find(faults, "shared array", transpose, grid, (8, 8), x, out, False, seed=seed)


@given(st.integers(1, 64), st.integers(0, 99))
def test_scans_need_their_barrier(n, seed):
    x, out = np.random.default_rng(seed).integers(-9, 9, n).astype(F), zeros(n)
    simt.run(scan, 1, n, x, out, True, seed=seed, races=True)
    np.testing.assert_array_equal(out, x.cumsum())
    if n > 2:
        find((simt.RaceError, simt.UnwrittenError), "shared array", scan, 1, n, x, out, False, seed=seed)
