"""Random numbers on the emulated device: those of the CPU, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.kernels import cpu, named

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim
simt.device()
K = named("cuda-sim")
DTYPES = st.sampled_from(["float32", "float64"])
SHAPES = st.sampled_from([(), (0,), (1,), (5,), (3, 4), (2, 130)])


@given(SHAPES, st.floats(0, 1), st.integers(0, 2**63 - 1), DTYPES)
def test_masks(shape, p, key, dtype):
    found = K.to_numpy(K.bernoulli(shape, p, key, dtype, 1.25))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, cpu.bernoulli(shape, p, key, dtype, 1.25))


@given(SHAPES, st.integers(0, 2**63 - 1), DTYPES)
def test_uniform_numbers(shape, key, dtype):
    found = K.to_numpy(K.uniform(shape, key, dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, cpu.uniform(shape, key, dtype))


@pytest.mark.parametrize("locked", [False, True])
def test_dropout_drops_the_same_numbers_as_on_the_cpu(locked):
    x = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)

    def run(device):
        layer, y = nn.Dropout(0.4, locked=locked, generator=3), mg.tensor(x, device=device)
        return [layer(y).numpy() for _ in range(2)]

    for found, expected in zip(run("cuda-sim"), run("cpu")):
        np.testing.assert_array_equal(found, expected)
