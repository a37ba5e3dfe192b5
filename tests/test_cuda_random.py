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


def test_a_recurrent_layer_with_every_mask_goes_as_on_the_cpu():
    x = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(np.float32)

    def run(device):
        layer = nn.LSTM(3, 4, num_layers=2, dropout=0.5, weight_dropout=0.3, zoneout=0.2, variational_dropout=0.3,
                        recurrent_dropout=0.3, generator=0).to(device)  # fmt: skip
        y, _ = layer(mg.tensor(x, device=device))
        y.backward(mg.tensor(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape), device=device))
        return [y.numpy(), *[p.grad.numpy() for p in layer.parameters()]]

    for found, expected in zip(run("cuda-sim"), run("cpu")):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
