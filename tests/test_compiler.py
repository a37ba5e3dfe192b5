"""A compiled cell equals its definition: the contract of a fused operation, over many cells."""

import cells
import numpy as np
import pytest
from recurrent_cases import poisoned  # noqa: F401

import minigrad as mg
from minigrad.compiler.fused import Call as Scan
from minigrad.compiler.fused import kernel_of
from minigrad.engine.tree import leaves, tree_map
from minigrad.ops import REGISTRY
from minigrad.ops.record import binary
from minigrad.testing import check_grad

TOLERANCE = {"float32": 5e-4, "float64": 1e-9}
SIZES = [(1, 1, 1, 1), (3, 2, 5, 4), (5, 3, 33, 17), (4, 7, 3, 40), (6, 1, 20, 20)]  # T, B, I, H


class Call:
    """A cell with random parameters, inputs and states."""

    def __init__(self, name, sizes, dtype="float64", lengths=None, reverse=False, seed=0):
        T, B, I, H = sizes
        self.rng = np.random.default_rng(seed)
        self.cell, self.params, widths = cells.draw(name, self.rng, I, H, dtype)
        self.x = self.tensor(T, B, I, dtype=dtype)
        self.state = tree_map(lambda n: self.tensor(B, n, dtype=dtype), widths)
        self.options = {"lengths": lengths, "reverse": reverse}
        self.dtype = dtype

    def tensor(self, *shape, dtype):
        return mg.Tensor(self.rng.standard_normal(shape).astype(dtype), True)

    @property
    def inputs(self):
        return [self.x, *leaves(self.state), *leaves(self.params)]

    def run(self, compiled=True):
        return mg.scan(self.cell, self.params, self.x, self.state, compiled=compiled, **self.options)

    def gradients(self, compiled=True, used=None):
        """All outputs, and the gradients of all inputs for random cotangents of the outputs ``used``."""
        for t in self.inputs:
            t.grad = None
        ys, final = self.run(compiled)
        outputs = leaves(ys) + leaves(final)
        rng = np.random.default_rng(1)
        loss = mg.tensor(0.0, dtype=self.dtype)
        for i, y in enumerate(outputs):
            g = mg.Tensor(rng.standard_normal(y.shape).astype(self.dtype))
            if used is None or i in used:
                loss = loss + (y * g).sum()
        loss.backward()
        return [np.asarray(y) for y in outputs], [None if t.grad is None else np.asarray(t.grad) for t in self.inputs]


def assert_close(got, expected, dtype):
    for a, b in zip(got, expected, strict=True):
        a, b = (np.zeros(()) if v is None else v for v in (a, b))
        scale = max(float(np.abs(b).max(initial=0)), 1e-2)
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * scale)


def assert_same(call, **options):
    compiled, plain = call.gradients(True, **options), call.gradients(False, **options)
    assert_close(compiled[0], plain[0], call.dtype)
    assert_close(compiled[1], plain[1], call.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", cells.NAMES)
def test_compiled_equals_definition(name, dtype):
    for sizes in SIZES:
        call = Call(name, sizes, dtype)
        assert not isinstance(kernel_of(Scan(call.cell, call.params, call.x, call.state)), str)
        assert_same(call)
        lengths = np.random.default_rng(3).integers(0, sizes[0] + 1, sizes[1])
        for reverse in (False, True):
            assert_same(Call(name, sizes, dtype, lengths=lengths, reverse=reverse))
        assert_same(Call(name, sizes, dtype, reverse=True))


@pytest.mark.parametrize("name", ["lstm", "gru_before", "joined"])
def test_any_subset_of_outputs(name):
    call = Call(name, (3, 2, 5, 4))
    for i in range(len(leaves(call.run(False)))):
        assert_same(call, used=[i])


def test_one_step_of_the_output():
    for compiled in (True, False):
        call = Call("lstm", (4, 2, 3, 5))
        ys, _ = call.run(compiled)
        (ys[2] * 3.0).sum().backward()
        if compiled:
            expected = [t.grad.numpy() for t in call.inputs]
        else:
            assert_close([t.grad.numpy() for t in call.inputs], expected, "float64")


@pytest.mark.parametrize("kept", range(5))
def test_one_input_alone_requires_a_gradient(kept):
    call = Call("lstm", (3, 2, 4, 3))
    full = call.gradients()[1]
    for i, t in enumerate(call.inputs):
        t.requires_grad = i == kept
    alone = call.gradients()[1]
    assert [g is not None for g in alone] == [i == kept for i in range(6)]
    assert_close([alone[kept]], [full[kept]], "float64")


@pytest.mark.parametrize("name", ["lstm", "gru_before", "gru_after", "layer_norm_lstm"])
def test_derivatives_of_order_1_and_2(name):
    call = Call(name, (3, 2, 2, 3))

    def f(*inputs):
        it = iter(inputs)
        x, state, params = next(it), tree_map(lambda _: next(it), call.state), tree_map(lambda _: next(it), call.params)
        ys, final = mg.scan(call.cell, params, x, state, lengths=[3, 1])
        return (ys, *leaves(final))

    check_grad(f, *[np.asarray(t) for t in call.inputs], order=2)


def test_padding_filled_with_nan_changes_nothing():
    lengths = np.array([2, 0, 4])
    clean, spoilt = (Call("lstm", (4, 3, 5, 6), lengths=lengths) for _ in range(2))
    x = np.array(spoilt.x.numpy())
    x[np.arange(4)[:, None] >= lengths] = np.nan
    spoilt.x = mg.Tensor(x, True)
    a, b = clean.gradients(), spoilt.gradients()
    for p, q in zip(a[0] + a[1], b[0] + b[1], strict=True):
        np.testing.assert_array_equal(p, q)


def test_many_steps_equal_one_step_many_times():
    call = Call("gru_after", (5, 3, 4, 6))
    ys, final = call.run()
    state = call.state
    for t in range(5):
        y, state = mg.scan(call.cell, call.params, call.x[t : t + 1], state)
        np.testing.assert_allclose(y.numpy()[0], ys.numpy()[t], rtol=1e-12)
    np.testing.assert_allclose(state.numpy(), final.numpy(), rtol=1e-12)


def test_two_runs_agree_to_the_last_bit():
    a, b = (Call("lstm", (7, 40, 30, 50), "float32").gradients() for _ in range(2))
    for p, q in zip(a[0] + a[1], b[0] + b[1], strict=True):
        np.testing.assert_array_equal(p, q)


def test_huge_inputs_give_finite_results():
    call = Call("lstm", (3, 2, 4, 5), "float32")
    call.x = mg.Tensor(call.x.numpy() * np.float32(1e4), True)
    outputs, gradients = call.gradients()
    assert all(np.isfinite(a).all() for a in outputs + gradients)


def test_inputs_stay_and_gradients_share_no_memory():
    call = Call("gru_before", (3, 2, 4, 5))
    before = [t.numpy().copy() for t in call.inputs]
    call.gradients()
    grads = [t.grad.data for t in call.inputs]
    for t, old in zip(call.inputs, before):
        np.testing.assert_array_equal(t.numpy(), old)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(grads) for b in grads[:i])
    assert not any(np.shares_memory(g, t.data) for g in grads for t in call.inputs)


def test_layouts_in_memory_do_not_matter():
    plain, odd = Call("lstm", (4, 3, 6, 5)), Call("lstm", (4, 3, 6, 5))
    odd.x = mg.Tensor(np.asfortranarray(odd.x.numpy()), True)
    odd.params = tree_map(lambda p: mg.Tensor(np.repeat(p.numpy(), 2, axis=-1)[..., ::2], True), odd.params)
    odd.state = tree_map(lambda s: mg.Tensor(s.numpy()[::-1].copy()[::-1], True), odd.state)
    a, b = plain.gradients(), odd.gradients()
    assert_close(b[0] + b[1], a[0] + a[1], "float64")


def test_a_graph_that_is_kept_can_be_walked_twice():
    call = Call("lstm", (3, 2, 4, 5))
    ys, _ = call.run()
    y = (ys * ys).sum()
    y.backward(retain_graph=True)
    first = [t.grad for t in call.inputs]
    copies = [g.numpy().copy() for g in first]
    for t in call.inputs:
        t.grad = None
    y.backward()
    for g, copy, t in zip(first, copies, call.inputs):
        np.testing.assert_array_equal(g.numpy(), copy)
        np.testing.assert_array_equal(t.grad.numpy(), copy)


def test_sizes_do_not_enter_the_text_of_a_kernel():
    texts = set()
    for sizes in ((3, 2, 5, 4), (9, 4, 7, 11), (2, 3, 64, 128)):
        call = Call("layer_norm_lstm", sizes)
        texts.add(kernel_of(Scan(call.cell, call.params, call.x, call.state)).source)
    assert len(texts) == 1


def test_a_cell_that_cannot_be_compiled_runs_and_says_why():
    def turned(p, x, h):
        h = mg.tanh(mg.flip(h, -1) * p + x)
        return h, h

    x, h, p = mg.tensor(np.ones((3, 2, 4))), mg.tensor(np.ones((2, 4))), mg.tensor(np.ones(4), requires_grad=True)
    ys, _ = mg.scan(turned, p, x, h)
    ys.sum().backward()
    assert ys.shape == (3, 2, 4)
    assert p.grad.shape == (4,)
    assert "operation 'flip'" in mg.explain(mg.scan, turned, p, x, h)


def test_explain_shows_graph_plan_and_source():
    call = Call("lstm", (3, 2, 5, 4))
    text = mg.explain(mg.scan, call.cell, call.params, call.x, call.state)
    for part in ("Graph of 'lstm'", "sigmoid(", "before the loop", "def forward_rows0(", "def backward("):
        assert part in text


def test_a_number_from_outside_is_not_frozen():
    scale = 1.0

    def cell(p, x, h):
        h = h + scale * p * x
        return h, h

    x, h, p = mg.tensor(np.ones((2, 1, 3))), mg.tensor(np.zeros((1, 3))), mg.tensor(np.ones(3))
    assert mg.scan(cell, p, x, h)[1].numpy()[0, 0] == 2.0
    scale = 10.0
    assert mg.scan(cell, p, x, h)[1].numpy()[0, 0] == 20.0


def test_a_tensor_from_outside_receives_its_gradient():
    w = mg.tensor(np.ones(3), requires_grad=True)

    def cell(p, x, h):
        h = h + w * x
        return h, h

    x, h = mg.tensor(np.ones((2, 1, 3))), mg.tensor(np.zeros((1, 3)))
    _, final = mg.scan(cell, None, x, h)
    final.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [2.0, 2.0, 2.0])


def _wrong_b(p):
    p.b = mg.Tensor(np.zeros(15), True)


def _wrong_U(p):
    p.U = mg.Tensor(np.zeros((16, 7)), True)


def _no_b(p):
    del p.b


@pytest.mark.parametrize("spoil, kind", [(_wrong_b, ValueError), (_wrong_U, ValueError), (_no_b, AttributeError)])
def test_what_is_wrong_with_a_cell_raises_the_same_error_on_both_paths(spoil, kind):
    call = Call("lstm", (3, 2, 5, 4))
    spoil(call.params)
    messages = []
    for compiled in (True, False):
        with pytest.raises(kind) as error:
            call.run(compiled)
        messages.append((type(error.value), str(error.value)))
    assert messages[0] == messages[1]
    assert kind is AttributeError or messages[0][0] is mg.errors.ShapeError


def test_objects_from_outside_are_read_at_every_call():
    class Settings:
        gain = 2.0

    settings = Settings()

    def helper(x):
        return x * settings.gain

    def cell(p, x, h):
        h = h + helper(x @ p)
        return h, h

    x, h, p = mg.tensor(np.ones((2, 1, 1))), mg.tensor(np.zeros((1, 1))), mg.tensor(np.ones((1, 1)))
    assert mg.scan(cell, p, x, h)[1].item() == 4.0
    settings.gain = 3.0
    assert mg.scan(cell, p, x, h)[1].item() == 6.0


def test_a_function_of_floats_named_like_another_is_not_mistaken_for_it():
    def mul(x, y):
        return 2.0 * x * y

    before = dict(REGISTRY)
    double = binary("double_product", "2 a b", mul, (lambda g, y, a, b: mg.mul(double(g, b), 1.0), None), np.multiply)
    REGISTRY.clear()
    REGISTRY.update(before)

    def cell(p, x, h):
        h = double(h, p) * x + x
        return h, h

    v = mg.tensor(3.0, requires_grad=True)
    double(v, 1.0).backward()
    assert v.grad.item() == 2.0
    x, h, p = mg.tensor(np.ones((3, 1, 1))), mg.tensor(np.ones((1, 1))), mg.tensor(np.ones(1))
    assert mg.scan(cell, p, x, h)[1].item() == mg.scan(cell, p, x, h, compiled=False)[1].item() == 15.0


def test_a_tensor_that_is_several_of_the_inputs():
    """h and c start as one tensor; its first and second derivatives count both."""
    call = Call("lstm", (3, 2, 4, 4))
    both = call.tensor(2, 4, dtype="float64")
    v = call.tensor(2, 4, dtype="float64")

    def loss(compiled):
        def f(start):
            ys, (h, c) = mg.scan(call.cell, call.params, call.x, (start, start), compiled=compiled)
            return (ys * ys).sum() + (h * c).sum()

        return f

    for derivative in (lambda f: mg.grad(f)(both), lambda f: mg.hvp(f, both, v)):
        got, expected = derivative(loss(True)), derivative(loss(False))
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-10, atol=1e-12)
