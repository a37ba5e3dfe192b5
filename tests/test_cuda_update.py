"""Steps of the optimisers and norms of gradients, on the emulated device, against the CPU's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from minigrad.kernels import cpu, named, steps

pytest.importorskip("greenlet", reason="the emulated device needs greenlet")
from minigrad.kernels.cuda.update import CHUNK
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim
simt.device()
K = named("cuda-sim")
SETTINGS = {
    "sgd": [0.1, 0.9, 0.01], "adagrad": [0.1, 1e-8, 0.01], "rmsprop": [0.1, 0.9, 1e-8, 0.9, 0.01],
    "adam": [1e-2, 0.9, 0.99, 1e-8, 10.0, 100.0, 0.01, 0.02], "average": [3.0],
}  # fmt: skip
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.parametrize("name", SETTINGS)
@both_dtypes
@given(n=st.sampled_from([0, 1, 3, 4, 5, 255, 520]), seed=st.integers(0, 99))
def test_a_step_equals_the_cpus(name, dtype, n, seed):
    rng = np.random.default_rng(seed)
    p, g = rng.standard_normal((2, n)).astype(dtype)
    buffers = [np.abs(rng.standard_normal(n)).astype(dtype) for _ in range(steps.OWN[getattr(steps, name)])]
    p0, b0 = K.from_numpy(p), [K.from_numpy(b) for b in buffers]
    found = K.to_numpy(K.update(name, p0, K.from_numpy(g), b0, SETTINGS[name]))
    expected = cpu.update(name, p, g, buffers, SETTINGS[name])
    for a, b in [(found, expected), *zip(map(K.to_numpy, b0), buffers)]:
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(K.to_numpy(p0), p)


@both_dtypes
def test_views_of_any_layout(dtype):
    x = np.arange(24, dtype=dtype).reshape(4, 6)
    for index in ((slice(None), slice(1, 4)), (1, slice(1, None)), (slice(None, None, -1),)):
        v, d = x[index], K.from_numpy(x).cut(index)
        np.testing.assert_array_equal(K.to_numpy(K.scaled(d, 0.5)), v / 2)
        assert K.squares(d) == float((v * v).sum())
        found = K.update("sgd", d, d, [K.full(v.shape, 0, dtype)], [0.5, 0.0, 0.0])
        np.testing.assert_array_equal(K.to_numpy(found), v / 2)


@both_dtypes
def test_squares_of_several_arrays(dtype):
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(n).astype(dtype) for n in (0, 1, 7, CHUNK, CHUNK + 1, 2 * CHUNK - 2)]
    found = [K.squares(*map(K.from_numpy, xs)) for _ in range(2)]
    assert found[0] == found[1] and isinstance(found[0], float)
    np.testing.assert_allclose(found[0], sum((x.astype(np.float64) ** 2).sum() for x in xs), rtol=1e-6)
    assert K.squares() == K.squares(K.from_numpy(xs[0])) == 0.0
    assert K.squares(K.from_numpy(np.array([1, np.inf], dtype))) == np.inf


MAKERS = {
    "sgd": lambda p: optim.SGD(p, 0.1, 0.9), "adagrad": lambda p: optim.Adagrad(p, 0.1),
    "rmsprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.5), "adamw": lambda p: optim.AdamW(p, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("kind", MAKERS)
def test_training_with_clipping_and_averaging_goes_as_on_the_cpu(kind):
    """Three steps, the state carried over to another optimiser after the second."""

    def run(device):
        rng = np.random.default_rng(0)
        w = mg.tensor(rng.standard_normal((3, 5)).astype(np.float32), device=device, requires_grad=True)
        b = mg.tensor(rng.standard_normal(5).astype(np.float32), device=device, requires_grad=True)
        average, opt = optim.Average([w, b]), MAKERS[kind]([w, b])
        norms = []
        for step in range(3):
            for p in (w, b):
                p.grad = mg.tensor(rng.standard_normal(p.shape).astype(np.float32), device=device)
            norms.append(optim.clip_grad_norm_([w, b], 1.0))
            if step == 2:
                state, opt = opt.state_dict(), MAKERS[kind]([w, b])
                opt.load_state_dict(state)
            opt.step()
            average.update()
        assert w.device == device
        with average.applied():
            assert w.device == device
            means = [w.numpy(), b.numpy()]
        return [norms, w.numpy(), b.numpy(), *means]

    for found, expected in zip(run("cuda-sim"), run("cpu")):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
