"""The emulator runs kernels as CUDA defines them: words, warps, barriers, memory, real kernels of numba.cuda."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")

from minigrad.kernels.cuda.language import grid_barrier, group_barrier, load4, store4
from minigrad.testing import simt
from minigrad.testing.simt import cuda

pytestmark = pytest.mark.cuda_sim
F, I = np.float32, np.int32


def run(kernel, grid, block, *args, **options):
    """In order, and shuffled; always with races watched."""
    found = []
    for seed in (None, 1):
        given = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
        simt.run(kernel, grid, block, *given, seed=seed, races=True, **options)
        found.append(given)
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)
    return found[0]


def zeros(*shape, dtype=F):
    return np.zeros(shape, dtype)


def of_warp(call, n=32, dtype=np.int64):
    """Results of all lanes of ``call(lane)``."""

    def kernel(out):
        out[cuda.laneid] = call(cuda.laneid)

    return run(kernel, 1, n, zeros(n, dtype=dtype))[0].tolist()


# ------------------------------------------------------------------------------------------------ places


def test_every_thread_of_three_axes_runs_once_at_its_place():
    def kernel(seen):
        x, y, z = cuda.grid(3)
        assert (x, y) == cuda.grid(2) and x == cuda.grid(1)
        assert cuda.gridsize(3) == seen.shape and cuda.gridDim.z * cuda.blockDim.z == cuda.gridsize(3)[2]
        seen[x, y, z] += 1 + cuda.blockIdx.z

    seen = run(kernel, (2, 1, 3), (4, 3, 2), zeros(8, 3, 6))[0]
    assert (seen == np.repeat([1, 2, 3], 2)).all()


@given(st.integers(1, 200), st.sampled_from([1, 7, 32, 64]), st.integers(1, 3))
def test_a_loop_with_the_stride_of_the_grid(n, block, grid):
    def kernel(x, out, n):
        i = cuda.grid(1)
        while i < n:
            out[i] = F(2) * x[i]
            i += cuda.gridsize(1)

    x = np.random.default_rng(n).normal(size=n).astype(F)
    np.testing.assert_array_equal(run(kernel, grid, block, x, zeros(n), n)[1], 2 * x)


# ------------------------------------------------------------------------------------------------ barriers


@given(st.integers(0, 5), st.booleans(), st.sampled_from([1, 3, 33, 64, 100]))
def test_a_sum_by_halves(seed, dynamic, n):
    def kernel(x, out):
        s = cuda.shared.array(0, F) if dynamic else cuda.shared.array(128, F)
        i = cuda.threadIdx.x
        s[i] = x[cuda.blockIdx.x, i]
        cuda.syncthreads()
        half = 64
        while half:
            if i < half and i + half < cuda.blockDim.x:
                s[i] += s[i + half]
            half //= 2
            cuda.syncthreads()
        if i == 0:
            out[cuda.blockIdx.x] = s[0]

    x = np.random.default_rng(seed).integers(-9, 9, (3, n)).astype(F)
    np.testing.assert_array_equal(run(kernel, 3, n, x, zeros(3), shared=4 * n)[1], x.sum(1))


def test_barriers_that_vote():
    def kernel(out):
        i = cuda.threadIdx.x
        out[i, 0] = cuda.syncthreads_count(i % 3)
        out[i, 1] = cuda.syncthreads_and(i < 40)
        out[i, 2] = cuda.syncthreads_or(i == 39)

    assert run(kernel, 1, 40, zeros(40, 3))[0].tolist() == [[26, 1, 1]] * 40


def of_grid(x, out, barrier):
    i = cuda.grid(1)
    for step in range(3):
        out[i] = x[cuda.gridsize(1) - 1 - i] + F(step)
        barrier(step)
        x[i] = out[i]
        barrier(3 + step)


@pytest.mark.parametrize("blocks", [1, 4])
def test_barriers_of_the_grid(blocks):
    def synced(x, out):
        of_grid(x, out, lambda step: cuda.cg.this_grid().sync())

    def counted(x, out, counter):
        i = cuda.grid(1)
        for step in range(3):
            out[i] = x[cuda.gridsize(1) - 1 - i] + F(step)
            grid_barrier(counter, cuda.gridDim.x * (2 * step + 1))
            x[i] = out[i]
            grid_barrier(counter, cuda.gridDim.x * (2 * step + 2))

    x = np.arange(8 * blocks, dtype=F)
    want = x[::-1] + 3
    np.testing.assert_array_equal(run(synced, blocks, 8, x, zeros(8 * blocks))[1], want)
    found = run(counted, blocks, 8, x, zeros(8 * blocks), zeros(1, dtype=np.uint32))
    np.testing.assert_array_equal(found[1], want)
    assert found[2].tolist() == [6 * blocks]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 4))
def test_groups_of_blocks_wait_for_their_own(groups, blocks, rounds):
    def kernel(x, counters, rounds):
        group, part = cuda.blockIdx.x // blocks, cuda.blockIdx.x % blocks
        done = 0
        for _ in range(rounds + group):  # groups need different numbers of barriers
            if cuda.threadIdx.x == 0:
                left = x[group, (part + 1) % blocks]
            done += 1
            group_barrier(counters, group, blocks, blocks * done)
            if cuda.threadIdx.x == 0:
                x[group, part] = left + 1
            done += 1
            group_barrier(counters, group, blocks, blocks * done)

    x, counters, _ = run(kernel, groups * blocks, 3, zeros(groups, blocks), zeros(groups, dtype=np.uint32), rounds)
    assert x.tolist() == [[rounds + g] * blocks for g in range(groups)]
    assert counters.tolist() == [2 * blocks * (rounds + g) for g in range(groups)]


# ------------------------------------------------------------------------------------------------ warps


@pytest.mark.parametrize("width", [32, 8])
def test_shuffles_follow_their_definition(width):
    full = 0xFFFFFFFF
    lanes = range(32)
    first = [i // width * width for i in lanes]
    found = of_warp(lambda i: cuda.shfl_sync(full, 10 * i, 3, width))
    assert found == [10 * (first[i] + 3) for i in lanes]
    found = of_warp(lambda i: cuda.shfl_up_sync(full, 10 * i, 2, width))
    assert found == [10 * (i - 2 if i - 2 >= first[i] else i) for i in lanes]
    found = of_warp(lambda i: cuda.shfl_down_sync(full, 10 * i, 5, width))
    assert found == [10 * (i + 5 if i + 5 < first[i] + width else i) for i in lanes]
    assert of_warp(lambda i: cuda.shfl_xor_sync(full, 10 * i, 3, width)) == [10 * (i ^ 3) for i in lanes]


def test_votes_and_matches():
    full, odd = 0xFFFFFFFF, 0xAAAAAAAA
    assert of_warp(lambda i: cuda.ballot_sync(full, i % 2)) == [odd] * 32
    assert of_warp(lambda i: cuda.any_sync(full, i == 5)) == [1] * 32
    assert of_warp(lambda i: cuda.all_sync(full, i == 5)) == [0] * 32
    assert of_warp(lambda i: cuda.match_any_sync(full, i % 2)) == [odd >> 1, odd] * 16
    assert of_warp(lambda i: cuda.match_all_sync(full, 7.0)[0]) == [full] * 32
    assert of_warp(lambda i: cuda.ballot_sync(odd, 1) if i % 2 else cuda.ballot_sync(odd >> 1, 0)) == [0, odd] * 16
    assert of_warp(lambda i: cuda.ballot_sync(full, 1), n=20) == [(1 << 20) - 1] * 20


def test_a_lane_that_is_not_there_gives_no_number():
    found = of_warp(lambda i: cuda.shfl_down_sync(0xFFFFFFFF, F(1), 8), n=20, dtype=F)
    assert found[:12] == [1] * 12 and all(map(math.isnan, found[12:]))


@given(st.integers(0, 9))
def test_a_scan_by_shuffles(seed):
    def kernel(x, out):
        value = x[cuda.threadIdx.x]
        step = 1
        while step < 32:
            other = cuda.shfl_up_sync(0xFFFFFFFF, value, step)
            if cuda.laneid >= step:
                value += other
            step *= 2
        out[cuda.threadIdx.x] = value

    x = np.random.default_rng(seed).integers(-99, 99, 64)
    np.testing.assert_array_equal(run(kernel, 1, 64, x, zeros(64))[1], x.reshape(2, 32).cumsum(1).ravel())


# ------------------------------------------------------------------------------------------------ memory


def test_shared_local_and_constant_arrays():
    table = np.array([3.0, 5.0], F)

    def kernel(out):
        a, b = cuda.shared.array(4, F), cuda.shared.array(4, np.int32)  # two on one line
        square, c = cuda.local.array((2, 2), F), cuda.const.array_like(table)
        i = cuda.threadIdx.x
        a[i], b[i] = c[i % 2], i
        for j in range(4):
            square[j // 2, j % 2] = j
        cuda.syncthreads()
        out[i] = a[3 - i] + b[3 - i] + square[1, 1]

    assert run(kernel, 1, 4, zeros(4))[0].tolist() == [11, 8, 9, 6]


def test_dynamic_memory_is_one_buffer_of_several_dtypes():
    def kernel(out):
        floats, whole = cuda.shared.array(0, F)[:4], cuda.shared.array(0, np.int32)[4:]
        i = cuda.threadIdx.x
        floats[i], whole[i] = F(i) / F(2), i
        cuda.syncthreads()
        out[i] = floats[3 - i] + F(whole[i])

    assert run(kernel, 1, 4, zeros(4), shared=32)[0].tolist() == [1.5, 2, 2.5, 3]


def test_arrays_are_turned_reshaped_and_read_as_another_dtype():
    def kernel(x, out):
        i = cuda.threadIdx.x
        out.reshape(4)[i] = x.T[i, 1]
        out[1, :][:] = F(7)
        assert x.ndim == 2 and x.size == 4 and len(x) == 2 and x.itemsize == 4
        assert [v for v in x[1]] == [2, 3] and x.view(np.int32)[0, 0] == 0

    assert run(kernel, 1, 2, np.arange(4, dtype=F).reshape(2, 2), zeros(2, 2))[1].tolist() == [[2, 3], [7, 7]]


def test_atomics():
    def kernel(out, x):
        i = cuda.grid(1)
        cuda.atomic.add(out, 0, x[i])
        cuda.atomic.sub(out, 1, x[i])
        cuda.atomic.max(out, 2, x[i])
        cuda.atomic.min(out, 3, x[i])
        cuda.atomic.or_(out, 4, 1 << i)
        cuda.atomic.xor(out, 5, i)
        cuda.atomic.and_(out, 6, ~i)
        cuda.atomic.inc(out, 7, 4)
        cuda.atomic.exch(out, 8, 5)
        cuda.atomic.cas(out, 9, 0, 6)

    x = np.array([3, -4, 9, 1, 2, 2], I)
    found = run(kernel, 2, 3, zeros(10, dtype=I), x)[0]
    assert found.tolist() == [13, -13, 9, -4, 63, 1, 0, 1, 5, 6]


@pytest.mark.parametrize("seed", range(4))
def test_the_last_block_sums_what_the_others_left(seed):
    """The pattern of CUDA's threadFenceReduction: a fence, then an atomic that another block's atomic meets."""

    def kernel(x, parts, count, out):
        last = cuda.shared.array(1, np.int32)
        i, b = cuda.threadIdx.x, cuda.blockIdx.x
        if i == 0:
            parts[b] = x[2 * b] + x[2 * b + 1]
            cuda.threadfence()
            last[0] = cuda.atomic.add(count, 0, 1) == cuda.gridDim.x - 1
        cuda.syncthreads()
        if last[0] and i == 0:
            total = F(0)
            for k in range(cuda.gridDim.x):
                total += parts[k]
            out[0] = total

    x, out = np.arange(8, dtype=F), zeros(1)
    simt.run(kernel, 4, 2, x, zeros(4), zeros(1, dtype=I), out, seed=seed, races=True)
    assert out[0] == x.sum()


def test_a_lock_lets_one_thread_at_a_time():
    def kernel(lock, count):
        while cuda.atomic.cas(lock, 0, 0, 1) != 0:
            pass
        cuda.threadfence()
        count[0] += 1
        cuda.threadfence()
        cuda.atomic.exch(lock, 0, 0)

    assert run(kernel, 3, 4, zeros(1, dtype=I), zeros(1))[1][0] == 12


def test_neighbours_move_at_once_where_they_are_aligned():
    def kernel(x, out):
        i = 4 * cuda.threadIdx.x
        a, b, c, d = load4(x, i)
        store4(out, i, (d, c, b, a))

    x = np.arange(16, dtype=F)
    np.testing.assert_array_equal(run(kernel, 1, 4, x, zeros(16))[1], x.reshape(4, 4)[:, ::-1].ravel())
