"""Cells that attend to a memory: compiled equals definition."""

import memory_cells
import numpy as np
import pytest
import test_compiler
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_cases import poisoned  # noqa: F401
from test_compiler import Scan, assert_close, assert_same, kernel_of

import minigrad as mg
from minigrad.engine.tree import leaves, rebuild
from minigrad.testing import check_grad

names = pytest.mark.parametrize("name", memory_cells.NAMES)


class Call(test_compiler.Call):
    """A cell with a memory, and random parameters, inputs and states."""

    def __init__(self, name, sizes, dtype="float64", lengths=None, reverse=False, every=None, seed=0):
        T, B, I, H, S = sizes
        self.rng, self.dtype = np.random.default_rng(seed), dtype
        self.cell, self.params, shapes = memory_cells.draw(name, self.rng, I, H, S, dtype)
        self.x = self.tensor(T, B, I, dtype=dtype)
        self.state = tuple(self.tensor(B, *shape, dtype=dtype) for shape in shapes)
        if name == "two_layers":
            self.state = dict(zip(("above", "below", "keys"), self.state))
        self.options = {"lengths": lengths, "reverse": reverse, "checkpoint_every": every}

    def kernel(self):
        return kernel_of(Scan(self.cell, self.params, self.x, self.state))


@settings(max_examples=max(6, settings.default.max_examples // 6))
@given(data=st.data(), T=st.integers(1, 9), B=st.sampled_from([1, 2, 3, 17]), S=st.sampled_from([1, 2, 3, 4, 5, 19]),
       H=st.sampled_from([4, 17]), seed=st.integers(0, 99))  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@names
def test_compiled_equals_definition(name, dtype, data, T, B, S, H, seed):
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    reverse, every = data.draw(st.booleans()), data.draw(st.sampled_from([None, None, 1, 2, 4]))
    call = Call(name, (T, B, 3, H, S), dtype, lengths, reverse, every, seed)
    count = len(leaves(call.run(False)))
    assert isinstance(call.kernel(), str) == (S == 1)
    assert_same(call, used=data.draw(st.none() | st.sets(st.integers(0, count - 1), min_size=1)))


@names
def test_many_members_on_every_thread(name):
    """So much work that all threads share it, with and without lengths."""
    for lengths in (None, np.random.default_rng(0).integers(0, 14, 40)):
        assert_same(Call(name, (13, 40, 3, 40, 21), lengths=lengths))


@names
def test_any_inputs_alone_require_a_gradient(name):
    call = Call(name, (3, 2, 3, 4, 5))
    full = call.gradients()[1]
    for kept in range(len(call.inputs)):
        for i, t in enumerate(call.inputs):
            t.requires_grad = i in (kept, (kept + 3) % len(call.inputs))
        alone = call.gradients()[1]
        assert [g is not None for g in alone] == [t.requires_grad for t in call.inputs]
        assert_close(alone, [g if t.requires_grad else None for g, t in zip(full, call.inputs)], "float64")


@names
def test_derivatives_of_order_1_and_2(name):
    call = Call(name, (2, 2, 3, 4, 3), lengths=[2, 1])

    def f(x, *inputs):
        n = len(leaves(call.state))
        state, params = rebuild(call.state, inputs[:n]), rebuild(call.params, inputs[n:])
        ys, final = mg.scan(call.cell, params, x, state, lengths=[2, 1])
        return (*leaves(ys), *leaves(final))

    check_grad(f, *[np.asarray(t) for t in call.inputs], order=2)


@names
def test_one_kernel_serves_memories_of_every_size(name):
    found = [Call(name, (3, 2, 3, 6, S)).kernel() for S in (5, 2, 6, 40, 7)]
    assert len({kernel.source for kernel in found}) == 1


@pytest.mark.parametrize("over", [mg.sum, mg.mean])  # a mean has a constant 1 / S
def test_a_cell_may_look_at_the_size_of_its_memory(over):
    def looking(p, x, s):
        h, keys = s
        e = mg.einsum("ba,bsa->bs", h, keys)
        S = keys.shape[1]
        e = e * 0.5 if S < 10 else mg.tanh(e) if S == 30 else e
        h = mg.tanh(x @ p.T + over(e, -1, keepdims=True))
        return (h, keys), h

    for S in (20, 4, 30, 12, 1, 10, 9):
        call = Call("input_feeding", (3, 2, 3, 6, S))
        tensors = (call.tensor(*shape, dtype="float64") for shape in ((6, 3), (2, 6), (2, S, 6)))
        call.cell, (call.params, *state) = looking, tensors
        call.state = tuple(state)
        assert_same(call)
        if over is mg.sum:
            assert isinstance(call.kernel(), str) == (S in (1, 4, 9, 30))


def test_a_first_memory_as_wide_as_another_state():
    sources = set()
    for H, S in ((4, 4), (4, 5), (6, 4), (6, 6), (6, 2)):
        call = Call("input_feeding", (3, 2, 3, H, S), seed=S)
        assert_same(call)
        sources.add(call.kernel().source)
    assert len(sources) == 1


def test_many_steps_equal_one_step_many_times():
    call = Call("input_feeding", (5, 3, 3, 6, 7))
    (fed, weights), final = call.run()
    state = call.state
    for t in range(5):
        y, state = mg.scan(call.cell, call.params, call.x[t : t + 1], state)
        assert_close([y[0].numpy()[0], y[1].numpy()[0]], [fed.numpy()[t], weights.numpy()[t]], "float64")
    assert_close([s.numpy() for s in state], [s.numpy() for s in final], "float64")
    np.testing.assert_array_equal(final[3], call.state[3])


def test_masked_places_have_no_influence():
    """Whatever finite numbers they hold: their weight is e^-1e9 = 0."""
    results = []
    for filler in (0.0, 1e3):
        call = Call("input_feeding", (4, 2, 3, 5, 6), "float32")
        *rest, keys, values, mask = call.state
        keys, values, mask = (np.array(t.numpy()) for t in (keys, values, mask))
        keys[1, 4:] = values[1, 4:] = filler
        mask[...], mask[1, 4:] = 0, -1e9
        call.state = (*rest, *[mg.Tensor(v, True) for v in (keys, values, mask)])
        (fed, weights), _ = call.run()
        (fed * fed).sum().backward()
        results.append([fed.numpy(), *[t.grad.numpy() for t in call.inputs]])
        assert (weights.numpy()[:, 1, 4:] == 0).all()
        assert all((t.grad.numpy()[1, 4:] == 0).all() for t in call.state[3:])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_gradients_share_no_memory_and_inputs_stay():
    call = Call("coverage", (3, 2, 3, 4, 6))
    before = [t.numpy().copy() for t in call.inputs]
    _, final = call.run()
    final[1].backward(mg.Tensor(np.ones(final[1].shape)), retain_graph=True)
    np.testing.assert_array_equal(call.state[1].grad, np.ones(final[1].shape))
    call.gradients()
    grads = [t.grad.data for t in call.inputs]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(grads) for b in grads[:i])
    for t, old in zip(call.inputs, before):
        np.testing.assert_array_equal(t.numpy(), old)


def changed(p, x, state):
    h, memory = state
    return (h + x, memory * 0.5), h


def exchanged(p, x, state):
    h, keys, values = state
    return (h + x, values, keys), h


def normalised(p, x, state):
    h, memory = state
    return (h + mg.einsum("bs,bse->be", x, mg.softmax(memory)), memory), h


@pytest.mark.parametrize("cell, why", [(changed, "elementwise|'mul' of a weight matrix"),
                                       (exchanged, "a state of three axes that a step changes"),
                                       (normalised, "softmax of a weight matrix")])  # fmt: skip
def test_what_the_compiler_does_not_take_runs_by_its_definition(cell, why):
    x = mg.Tensor(np.random.default_rng(0).standard_normal((3, 2, 4)), True)
    memories = [
        mg.Tensor(np.random.default_rng(i).standard_normal((2, 4, 4)), True) for i in range(1 + (cell is exchanged))
    ]
    state = (mg.tensor(np.zeros((2, 4))), *memories)
    assert mg.explain(mg.scan, cell, None, x, state).startswith(f"'{cell.__name__}' runs step by step")
    ys, final = mg.scan(cell, None, x, state, lengths=[3, 1])
    ys.sum().backward()
    assert ys.shape == (3, 2, 4) and final[1].shape == (2, 4, 4)


def test_explain_shows_products_with_a_memory():
    call = Call("input_feeding", (3, 2, 3, 5, 6))
    text = mg.explain(mg.scan, call.cell, call.params, call.x, call.state)
    for part in ("211 stands for any S", "@ state3^T   # 211", "@ state4   # 7", "z35 = z34 @ state3^T",
                 "after the loop, for each member: d_state4 += y1^T", "times_turned, (m, "):  # fmt: skip
        assert part in text
