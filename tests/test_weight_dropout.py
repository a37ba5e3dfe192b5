"""DropConnect on the recurrent weights, and dropout with one mask for all steps."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrent_cases import KINDS, SMALL, all_sizes, assert_close, assert_same, build, every_kind, gradients, problem

import minigrad as mg
from minigrad.compiler.fused import kernel_of
from minigrad.engine.tree import leaves
from minigrad.kernels import cpu
from minigrad.testing import check_grad
from minigrad.testing.strategies import SEEDS


def again(layer, seed=3):
    """The masks of the next call are those of this seed; they are drawn by the generator that is returned, too."""
    layer.generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return np.random.default_rng(seed)


def mask_of(rng, p, shape):
    return cpu.bernoulli(shape, 1 - p, int(rng.integers(2**63)), np.float64, 1 / (1 - p))


@given(kind=st.sampled_from(list(KINDS)), s=all_sizes(), layers=st.integers(1, 2), p=st.sampled_from([0.2, 0.5, 0.9]))
def test_weight_dropout_is_a_call_with_masked_weights(kind, s, layers, p):
    """Also its gradients: those of the masked weights, times the mask."""
    dropped, x, state = problem(kind, s, num_layers=layers, weight_dropout=p, bidirectional=True)
    plain, _, _ = problem(kind, s, num_layers=layers, bidirectional=True)
    names = [name for name, _ in plain.named_parameters()]
    rng, masks = again(dropped), {}
    for name in (name for name in names if name.startswith("weight_hh")):
        w = getattr(plain, name)
        masks[name] = mask_of(rng, p, w.shape)
        setattr(plain, name, mg.nn.Parameter(w.numpy() * masks[name]))
    (out, found), (expected, wanted) = gradients(dropped, x, state, s.lengths), gradients(plain, x, state, s.lengths)
    assert_close(out, expected)
    first = len(wanted) - len(names)
    wanted = wanted[:first] + [g * masks.get(name, 1.0) for name, g in zip(names, wanted[first:])]
    assert_close(found, wanted)


@every_kind
def test_without_share_or_in_evaluation_it_is_no_dropout(kind):
    plain, x, state = problem(kind, SMALL)
    for layer in (
        build(kind, 2, 3, generator=5, weight_dropout=0.0),
        build(kind, 2, 3, generator=5, weight_dropout=0.5).eval(),
    ):
        before = layer.generator.bit_generator.state
        for a, b in zip(gradients(layer, x, state), gradients(plain, x, state)):
            assert_same(a, b)
        assert layer.generator.bit_generator.state == before


@every_kind
def test_it_is_compiled(kind):
    layer, x, state = problem(kind, SMALL, weight_dropout=0.5)
    kernels = []
    with pytest.MonkeyPatch.context() as patch:
        scan = sys.modules["minigrad.compiler.scan"]
        patch.setattr(scan, "kernel_of", lambda *args: kernels.append(kernel_of(*args)) or kernels[-1])
        leaves(layer(x, state))[0].sum().backward()
    assert kernels and not any(isinstance(k, str) for k in kernels)


def test_derivatives_of_a_masked_call():
    layer, x, state = problem("lstm", SMALL, weight_dropout=0.4)

    def f(u, x):
        again(layer)
        layer.weight_hh_l0 = u
        return layer(x, state)

    check_grad(f, layer.weight_hh_l0.numpy(), x.numpy())


def test_every_call_draws_another_mask():
    layer, x, state = problem("gru_before", SMALL, weight_dropout=0.5)
    one, two = (leaves(layer(x, state))[0].numpy() for _ in range(2))
    assert (one != two).any()


@given(p=st.sampled_from([0.0, 0.3, 0.9]), seed=SEEDS, steps=st.integers(1, 6))
def test_a_locked_mask_is_one_for_all_steps(p, seed, steps):
    x = mg.tensor(np.ones((steps, 3, 5)), requires_grad=True)
    y = mg.nn.Dropout(p, locked=True, generator=seed)(x)
    mask = mask_of(np.random.default_rng(seed), p, (1, 3, 5))
    np.testing.assert_allclose(y.numpy(), np.broadcast_to(mask, x.shape), rtol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.numpy(), rtol=1e-6)


def test_layers_are_joined_by_a_locked_mask():
    layer, x, state = problem("lstm", SMALL, num_layers=2, dropout=0.5, locked=True)
    again(layer)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mg.nn.Dropout,
            "forward",
            lambda self, x, f=mg.nn.Dropout.forward: seen.append((x, f(self, x))) or seen[-1][1],
        )
        layer(x, state)
    ((before, after),) = seen
    zeros = after.numpy() == 0
    assert zeros.any() and (zeros == zeros[:1]).all() and not (before.numpy() == 0).any()


def test_shares_out_of_range_are_refused():
    with pytest.raises(ValueError, match="weight_dropout=1"):
        mg.nn.LSTM(2, 3, weight_dropout=1.0)
