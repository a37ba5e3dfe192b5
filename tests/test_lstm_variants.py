"""Switches of the LSTM, masks, zoneout, checkpoint_every, and states that no step changes."""

import sys

import cells
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recurrent_cases import assert_close, assert_same, gradients, poisoned  # noqa: F401

import minigrad as mg
from minigrad.compiler.fused import Call, kernel_of
from minigrad.engine.tree import leaves
from minigrad.kernels import cpu
from minigrad.testing import check_grad

T, B, I, H = 5, 4, 3, 6
SWITCHES = {
    "peepholes": {"peepholes": True},
    "coupled": {"coupled": True},
    "projection": {"proj_size": 2},
    "layer norm": {"layer_norm": True},
    "all": {"peepholes": True, "coupled": True, "proj_size": 2, "layer_norm": True},
}
MASKS = {
    "variational": {"variational_dropout": 0.4},
    "recurrent": {"recurrent_dropout": 0.4},
    "zoneout": {"zoneout": 0.3},
    "all": {"variational_dropout": 0.4, "recurrent_dropout": 0.4, "zoneout": 0.3, **SWITCHES["all"]},
}
every_switch = pytest.mark.parametrize("switch", SWITCHES)
every_mask = pytest.mark.parametrize("mask", MASKS)


def build(dtype=np.float64, kind=mg.nn.LSTM, **options):
    layer = kind(I, H, generator=0, **options)
    rng = np.random.default_rng(7)
    for p in layer.parameters():
        p.data = (p.data + 0.3 * rng.standard_normal(p.shape)).astype(dtype)  # gains other than 1, biases other than 0
    return layer


def problem(layer, dtype=np.float64, steps=T):
    rng = np.random.default_rng(1)
    count = layer.num_layers * (1 + layer.bidirectional)
    state = tuple(mg.tensor(rng.standard_normal((count, B, n)).astype(dtype)) for n in layer.widths())
    x = mg.tensor(rng.standard_normal((steps, B, I)).astype(dtype))
    return x, state if len(state) == 2 else state[0]


def fresh(layer, seed=3):
    """The masks of the next call are those of this seed."""
    layer.generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return np.random.default_rng(seed)


def both_ways(layer, x, state, lengths=None):
    fresh(layer)
    compiled = gradients(layer, x, state, lengths)
    kernels = []

    def note(*args):
        kernels.append(kernel_of(*args))
        return "by the definition, to compare"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["minigrad.compiler.scan"], "kernel_of", note)
        fresh(layer)
        plain = gradients(layer, x, state, lengths)
    assert kernels and not any(isinstance(k, str) for k in kernels), kernels
    return compiled[0] + compiled[1], plain[0] + plain[1]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def norm(a, gain):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5) * gain


def step(p, x, h, c, options, x_mask=1.0, h_mask=1.0, g_mask=1.0):
    """One step in NumPy, from the papers' equations."""
    a, r = x * x_mask @ p["weight_ih_l0"].T, h * h_mask @ p["weight_hh_l0"].T
    if options.get("layer_norm"):
        a, r = norm(a, p["norm_ih_l0"]), norm(r, p["norm_hh_l0"])
    gates = a + r + p["bias_l0"]
    peep = options.get("peepholes")
    if options.get("coupled"):
        f, g, o = np.split(gates, 3, -1)
        f = sigmoid(f + p["weight_cf_l0"] * c if peep else f)
        i = 1 - f
    else:
        i, f, g, o = np.split(gates, 4, -1)
        i = sigmoid(i + p["weight_ci_l0"] * c if peep else i)
        f = sigmoid(f + p["weight_cf_l0"] * c if peep else f)
    c = f * c + i * np.tanh(g) * g_mask
    o = sigmoid(o + p["weight_co_l0"] * c if peep else o)
    h = o * np.tanh(norm(c, p["norm_c_l0"]) + p["norm_c_bias_l0"] if options.get("layer_norm") else c)
    return (h @ p["weight_hr_l0"].T if options.get("proj_size") else h), c


@every_switch
def test_switches_equal_their_equations(switch):
    layer = build(**SWITCHES[switch])
    x, (h0, c0) = problem(layer)
    h, c, ys = h0.numpy()[0], c0.numpy()[0], []
    for x_t in x.numpy():
        h, c = step(layer.state_dict(), x_t, h, c, SWITCHES[switch])
        ys.append(h)
    assert_close(leaves(layer(x, (h0, c0))), [np.stack(ys), h[None], c[None]])


@every_switch
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_switches_equal_the_definition(switch, dtype):
    for options in ({}, {"bidirectional": True, "num_layers": 2}):
        layer = build(dtype, **SWITCHES[switch], **options)
        for lengths in (None, [2, 5, 0, 3]):
            got, expected = both_ways(layer, *problem(layer, dtype), lengths)
            assert_close(got, expected, 1e-10 if dtype is np.float64 else 5e-4)


@every_switch
def test_derivatives_of_switches(switch):
    layer = build(**SWITCHES[switch])
    names, own = zip(*layer.named_parameters())
    x, state = problem(layer, steps=2)

    def f(x, h, c, *parameters):
        for name, p in zip(names, parameters):
            setattr(layer, name, p)
        return layer(x, (h, c), [2, 0, 1, 2])

    check_grad(f, x.numpy(), *(s.numpy() for s in state), *(p.numpy() for p in own), order=2, scale=0.05)


@every_mask
def test_compiled_masks_equal_the_definition(mask):
    for kind in (mg.nn.LSTM, mg.nn.GRU, mg.nn.RNN) if mask == "zoneout" else (mg.nn.LSTM,):
        for training in (True, False):
            layer = build(kind=kind, **MASKS[mask], num_layers=2).train(training)
            for lengths in (None, [2, 5, 0, 3]):
                assert_close(*both_ways(layer, *problem(layer), lengths), 1e-10)


def test_masks_do_what_the_papers_say():
    def keep(rng, p, *shape, scaled=True):
        return cpu.bernoulli(shape, 1 - p, int(rng.integers(2**63)), np.float64, 1 / (1 - p) if scaled else 1.0)

    for name in ("variational", "recurrent", "zoneout"):
        layer = build(**MASKS[name])
        x, (h0, c0) = problem(layer)
        rng = fresh(layer)
        x_mask = keep(rng, 0.4, B, I) if name == "variational" else 1.0
        h_mask = keep(rng, 0.4, B, H) if name == "variational" else 1.0
        g_mask = keep(rng, 0.4, T, B, H) if name == "recurrent" else np.ones((T, 1, 1))
        zones = [keep(rng, 0.7, T, B, H, scaled=False) if name == "zoneout" else np.zeros(T) for _ in range(2)]
        h, c = h0.numpy()[0], c0.numpy()[0]
        for t, x_t in enumerate(x.numpy()):
            new = step(layer.state_dict(), x_t, h, c, {}, x_mask, h_mask, g_mask[t])
            h, c = (z[t] * old + (1 - z[t]) * made for z, old, made in zip(zones, (h, c), new))
        assert_close(leaves(layer(x, (h0, c0))[1]), [h[None], c[None]])


def test_in_evaluation_zoneout_mixes_and_the_others_do_nothing():
    layer = build(zoneout=0.3).eval()
    x, (h0, c0) = problem(layer, steps=1)
    new = step(layer.state_dict(), x.numpy()[0], h0.numpy()[0], c0.numpy()[0], {})
    expected = [0.3 * old.numpy() + 0.7 * made[None] for old, made in zip((h0, c0), new)]
    assert_close(leaves(layer(x, (h0, c0))[1]), expected)
    plain = build()
    for mask in ("variational", "recurrent"):
        dropped = build(**MASKS[mask]).eval()
        dropped.load_state_dict(plain.state_dict())
        assert_close(leaves(dropped(x, (h0, c0))), leaves(plain(x, (h0, c0))))


def test_wrong_switches_are_named():
    for options in ({"proj_size": H}, {"proj_size": -1}, {"zoneout": 1.0}, {"variational_dropout": -0.1},
                    {"recurrent_dropout": 1.5}):  # fmt: skip
        with pytest.raises(ValueError, match=rf"\[LSTM\] got {next(iter(options))}"):
            mg.nn.LSTM(I, H, **options)
    with pytest.raises(mg.errors.ShapeError, match="checkpoint_every=0, expected 1 or more"):
        mg.nn.LSTM(I, H, checkpoint_every=0)(problem(build(np.float32), np.float32)[0])


# ----------------------------------------------------------------------------------------------- checkpoint_every


@pytest.mark.parametrize("name", ["lstm", "gru_after", "softmax_memory"])
@given(every=st.integers(1, 8), longest=st.integers(0, 7), reverse=st.booleans(), compiled=st.booleans())
def test_checkpoints_change_nothing(name, every, longest, reverse, compiled):
    rng = np.random.default_rng(0)
    cell, params, widths = cells.draw(name, rng, I, H, np.float64)
    state = [mg.tensor(rng.standard_normal((B, n)), requires_grad=True) for n in leaves(widths)]
    x = mg.tensor(rng.standard_normal((7, B, I)), requires_grad=True)
    lengths = [min(n, longest) for n in (3, 7, 0, 5)] if longest < 7 else None

    def run(every, compiled):
        start = tuple(state) if len(state) == 2 else state[0]
        out = leaves(mg.scan(cell, params, x, start, lengths=lengths, reverse=reverse, compiled=compiled,
                             checkpoint_every=every))  # fmt: skip
        inputs = [x, *state, *leaves(params)]
        for t in inputs:
            t.grad = None
        sum(((y * (i + 1.0)).sum() * y.sum() for i, y in enumerate(out)), mg.tensor(0.0, dtype=np.float64)).backward()
        return out + [t.grad for t in inputs]

    assert_close(run(every, compiled), run(None, True), 1e-9)


def test_checkpoints_save_memory():
    import tracemalloc

    def peak(every):
        layer = mg.nn.LSTM(8, 32, generator=0, checkpoint_every=every)
        x = mg.tensor(np.zeros((1000, 4, 8), np.float32))
        layer(x)[0].sum().backward()  # compiled now
        tracemalloc.start()
        layer(x)[1][0].sum().backward()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(40) < peak(None) / 5


# ------------------------------------------------------------------------------------ states that do not change


def conditioned(p, x, state):
    """A context for each member, as a decoder has it: an input of every step that needs no copy for each."""
    h, context = state
    h = mg.tanh(x @ p["W"].T + h @ p["U"].T + context @ p["C"].T) * context[..., :H]
    return (h, context), h


@given(steps=st.integers(1, 6), batch=st.sampled_from([1, 3, 9]), ragged=st.booleans(), reverse=st.booleans(),
       every=st.sampled_from([None, 2]))  # fmt: skip
def test_states_that_no_step_changes(steps, batch, ragged, reverse, every):
    rng = np.random.default_rng(steps)

    def tensor(*shape):
        return mg.tensor(rng.standard_normal(shape), requires_grad=True)

    p = {"W": tensor(H, I), "U": tensor(H, H), "C": tensor(H, H + 2)}
    x, h, context = tensor(steps, batch, I), tensor(batch, H), tensor(batch, H + 2)
    assert kernel_of(Call(conditioned, p, x, (h, context))).plan.fixed == [False, True]
    lengths = rng.integers(0, steps + 1, batch) if ragged else None
    gs = [rng.standard_normal(s) for s in ((steps, batch, H), (batch, H), (batch, H + 2))]

    def run(compiled):
        inputs = [x, h, context, *p.values()]
        for t in inputs:
            t.grad = None
        ys, final = mg.scan(conditioned, p, x, (h, context), lengths=lengths, reverse=reverse, compiled=compiled,
                            checkpoint_every=every)  # fmt: skip
        out = [ys, *final]
        sum(((y * g).sum() for y, g in zip(out, gs)), mg.tensor(0.0, dtype=np.float64)).backward()
        return out + [t.grad for t in inputs]

    got = run(True)
    assert_close(got, run(False), 1e-10)
    assert_same([got[2]], [context])
