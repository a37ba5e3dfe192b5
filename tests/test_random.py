"""Random numbers from a key: Philox's known answers, their distribution, and masks that a seed repeats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.kernels import cpu
from minigrad.kernels.philox import philox, words

KEYS = st.integers(0, 2**63 - 1)
FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
         (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)  # fmt: skip
def test_the_known_answers_of_random123(counter, key, expected):
    assert philox(*counter, *key) == expected


@given(KEYS, st.integers(0, 9))
def test_kernels_follow_the_definition(key, n):
    stream = [w for i in range(n) for w in words(i, key)]
    np.testing.assert_array_equal(cpu.bernoulli((4 * n,), 0.3, key, "float32"), np.array(stream) < round(0.3 * 2**32))
    np.testing.assert_array_equal(cpu.uniform((4 * n,), key, "float32"), [(w >> 8) / 2**24 for w in stream])
    pairs = [((a >> 5) * 2**26 + (b >> 6)) / 2**53 for a, b in zip(stream[::2], stream[1::2])]
    np.testing.assert_array_equal(cpu.uniform((2 * n,), key, "float64"), pairs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 0)])
def test_shapes_and_values(shape, dtype):
    mask = cpu.bernoulli(shape, 0.5, 7, dtype, 2.0)
    assert mask.shape == shape and mask.dtype == dtype and set(mask.ravel().tolist()) <= {0.0, 2.0}
    assert cpu.bernoulli(shape, 1.0, 7, dtype).all() and not cpu.bernoulli(shape, 0.0, 7, dtype).any()
    assert cpu.uniform(shape, 7, dtype).shape == shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_distribution(dtype):
    """Means and variances of 2^18 draws within five standard errors, and no likeness between neighbours or keys."""
    n = 2**18
    for p in (0.1, 0.5, 0.9):
        assert abs(cpu.bernoulli((n,), p, 1, dtype).mean() - p) < 5 * (p * (1 - p) / n) ** 0.5
    u, other = (cpu.uniform((n,), key, dtype).astype(np.float64) for key in (1, 2))
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5 and abs(u.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    for v in (np.roll(u, 1), np.roll(u, 4), other):
        assert abs(np.corrcoef(u, v)[0, 1]) < 5 / n**0.5
