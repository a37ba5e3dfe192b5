"""grad, vjp, jvp, jacobian, hessian, hvp and checkpoint: against closed forms, each other, and nested."""

import math
import tracemalloc
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given

import minigrad as mg
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.testing.strategies import SEEDS


def array(*values):
    return mg.tensor(np.array(values, np.float64))


def random(seed, *shape):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape))


def close(a, b, tolerance=1e-10):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


W = random(99, 3, 4)


def curved(x):
    """R^4 to R^3, with every kind of curvature."""
    return mg.tanh(W @ x) * mg.softmax(W @ mg.sin(x)) + x[:3] * x[1:]


def scalar(x):
    return mg.logsumexp(curved(x)) + mg.prod(x)


# ------------------------------------------------------------------------------------------------ closed forms


def test_the_gradient_of_a_quadratic_form_is_closed():
    a, x = random(0, 4, 4), random(1, 4)
    close(mg.grad(lambda x: x @ a @ x)(x), (a + a.T) @ x)
    close(mg.hessian(lambda x: x @ a @ x)(x), a + a.T)
    close(mg.jacobian(lambda x: a @ x)(x), a)


@given(seed=SEEDS)
def test_jvp_and_vjp_are_transposes_of_the_jacobian(seed):
    x, v, g = random(seed, 4), random(seed + 1, 4), random(seed + 2, 3)
    jacobian = mg.jacobian(curved)(x)
    y, pull = mg.vjp(curved, x)
    same, push = mg.jvp(curved, (x,), (v,))
    close(y, curved(x))
    close(same, y)
    close(pull(g)[0], g @ jacobian)
    close(push, jacobian @ v)


@given(seed=SEEDS)
def test_hessian_is_symmetric_and_hvp_is_its_product(seed):
    x, v = random(seed, 4), random(seed + 1, 4)
    h = mg.hessian(scalar)(x)
    close(h, h.T)
    close(mg.hvp(scalar, x, v), h @ v)
    close(mg.jacobian(mg.grad(scalar))(x), h)
    close(mg.jvp(mg.grad(scalar), (x,), (v,))[1], h @ v)


def test_jacobian_and_hessian_have_the_shapes_of_result_and_input():
    x = random(0, 2, 3)
    close(mg.jacobian(lambda x: x.T * 2.0)(x), 2 * np.einsum("il,jk->ijkl", np.eye(3), np.eye(2)))
    assert mg.hessian(lambda x: (x * x).sum())(x).shape == (2, 3, 2, 3)
    assert mg.jacobian(lambda x: x.sum())(x).shape == (2, 3)
    assert mg.jacobian(lambda x: x[:0])(x[0]).shape == (0, 3)


@pytest.mark.parametrize("order", range(1, 7))
def test_gradients_nest_to_any_order(order):
    x = mg.tensor(np.array(0.7))
    f, g = mg.exp, lambda x: mg.sin(2.0 * x)
    for _ in range(order):
        f, g = mg.grad(f), mg.grad(g)
    close(f(x), math.exp(0.7))
    close(g(x), 2**order * math.sin(1.4 + order * math.pi / 2))


def test_orders_mix_forward_and_reverse():
    x, one = mg.tensor(np.array(0.7)), mg.tensor(np.array(1.0))

    def forward(f):
        return lambda x: mg.jvp(f, (x,), (one,))[1]

    third = -math.cos(0.7)
    for a in (mg.grad, forward):
        for b in (mg.grad, forward):
            for c in (mg.grad, forward):
                close(a(b(c(mg.sin)))(x), third)


# ------------------------------------------------------------------------------------------------ nesting, closures


def test_perturbations_are_not_confused():
    x = mg.tensor(np.array(3.0))
    close(mg.grad(lambda x: x * mg.grad(lambda y: x + y)(x))(x), 1.0)
    close(mg.grad(lambda x: x * mg.grad(lambda y: x * y)(mg.tensor(np.array(2.0))))(x), 6.0)
    close(mg.grad(lambda x: mg.grad(lambda y: x * y * y)(x))(x), 12.0)
    one = mg.tensor(np.array(1.0))
    close(mg.jvp(lambda x: x * mg.jvp(lambda y: x + y, (one,), (one,))[1], (x,), (one,))[1], 1.0)


def test_a_gradient_penalty_reaches_parameters_in_the_closure():
    w = mg.tensor(np.array([[1.0, 2.0], [3.0, -1.0]]), requires_grad=True)
    x = array(0.3, -0.2)
    g = mg.grad(lambda x: mg.tanh(w @ x).sum())(x)
    assert g.requires_grad
    (g * g).sum().backward()

    def penalty(w):
        g = mg.grad(lambda x: mg.tanh(w @ x).sum())(x)
        return (g * g).sum()

    close(w.grad, mg.grad(penalty)(w.detach()))
    mg.testing.check_grad(penalty, w.numpy())


def test_a_gradient_that_nothing_waits_for_is_a_constant():
    x = mg.tensor(np.array(3.0))
    assert not mg.grad(lambda x: x * x)(x).requires_grad


def test_a_gradient_at_a_recorded_input_is_recorded():
    x = mg.tensor(np.array(3.0), requires_grad=True)
    mg.grad(lambda x: x * x * x)(x).backward()
    close(x.grad, 18.0)


def test_transforms_leave_the_grad_of_leaves_alone():
    w = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    mg.grad(lambda x: (w * x).sum())(w)
    mg.hvp(lambda x: (w * x * x).sum(), w, w)
    assert w.grad is None


def test_transforms_work_inside_no_grad_and_their_results_are_constants():
    w = mg.tensor(np.array(2.0), requires_grad=True)
    x = mg.tensor(np.array(3.0), requires_grad=True)
    with mg.no_grad():
        g = mg.grad(lambda x: w * x * x)(x)
        h = mg.grad(mg.grad(lambda x: w * x * x))(x)
        v = mg.hvp(lambda x: w * x * x * x, x, mg.tensor(np.array(1.0)))
        p = mg.jvp(lambda x: w * x * x, (x,), (mg.tensor(np.array(1.0)),))[1]
        j = mg.jacobian(lambda x: w * x * x)(x)
    close([g, h, v, p, j], [12, 4, 36, 12, 12])
    assert not any(t.requires_grad for t in (g, h, v, p, j))


def test_no_grad_inside_the_function_makes_a_constant_of_what_it_wraps():
    def f(x):
        with mg.no_grad():
            c = x * x
        return c * x

    close(mg.grad(f)(mg.tensor(np.array(3.0))), 9.0)


def test_an_input_that_the_result_does_not_depend_on_has_gradient_zero():
    a, b = array(1.0, 2.0), array(3.0)
    g = mg.grad(lambda a, b: a.sum(), argnums=(0, 1))(a, b)
    close(g[0], [1, 1])
    close(g[1], [0])
    close(mg.grad(lambda a: mg.tensor(np.array(1.0)))(a), [0, 0])


# ------------------------------------------------------------------------------------------------ arguments, containers


def test_argnums_and_keywords_choose_the_arguments():
    a, b = mg.tensor(np.array(2.0)), mg.tensor(np.array(3.0))
    close(mg.grad(lambda a, b: a * b * b, 1)(a, b), 12.0)
    close(mg.grad(lambda a, b: a * b * b, (1, 0))(a, b), [12.0, 9.0])
    close(mg.grad(lambda a, scale: a * a * scale)(a, scale=5.0), 20.0)
    y, g = mg.value_and_grad(lambda a, b: a * b)(a, b)
    close([y, g], [6.0, 3.0])


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize("wrap", [
    lambda a, b: {"a": a, "b": b}, Point, lambda a, b: SimpleNamespace(a=a, b=b), lambda a, b: [a, (b, None)],
    lambda a, b: {"outer": Point({"inner": a}, [b])},
])  # fmt: skip
def test_gradients_come_in_the_containers_of_the_inputs(wrap):
    def f(tree):
        a, b = mg.engine.tree.leaves(tree)
        return (a * a * b).sum()

    a, b = array(1.0, 2.0), array(3.0, 4.0)
    g = mg.grad(f)(wrap(a, b))
    expected = wrap(2 * a * b, a * a)
    assert type(g) is type(expected)
    for got, want in zip(mg.engine.tree.leaves(g), mg.engine.tree.leaves(expected), strict=True):
        close(got, want)
    if isinstance(g, dict):
        assert sorted(g) == sorted(expected)


def test_several_results_are_pulled_back_together():
    x = array(1.0, 2.0)
    y, pull = mg.vjp(lambda x: {"square": x * x, "sum": x.sum()}, x)
    (g,) = pull({"square": array(1.0, 10.0), "sum": mg.tensor(np.array(100.0))})
    close(g, [102, 140])
    close(pull({"square": array(0.0, 0.0), "sum": mg.tensor(np.array(1.0))})[0], [1, 1])  # again
    close(y["sum"], 3.0)


def test_numbers_and_arrays_are_taken_as_inputs():
    close(mg.grad(lambda x: x * x)(3.0), 6.0)
    close(mg.grad(lambda x: (x * x).sum())(np.array([1.0, 2.0])), [2, 4])


def test_methods_of_functions_survive_the_transform():
    def energy(x):
        """Half of x squared."""
        return 0.5 * x * x

    for transform in (mg.grad, mg.value_and_grad, mg.hessian, mg.jacobian):
        assert transform(energy).__name__ == "energy" and transform(energy).__doc__ == "Half of x squared."


# ------------------------------------------------------------------------------------------------ errors


def test_a_gradient_of_many_results_says_what_to_use():
    with pytest.raises(ShapeError, match=r"\[grad\] got a result of shape \(2,\), expected .*jacobian"):
        mg.grad(lambda x: x * x)(array(1.0, 2.0))
    with pytest.raises(ShapeError, match=r"\[grad\] got tuple"):
        mg.grad(lambda x: (x, x))(mg.tensor(1.0))


def test_a_gradient_with_respect_to_integers_is_refused():
    with pytest.raises(DtypeError, match=r"\[vjp\].*int64"):
        mg.grad(lambda x: x.sum())(mg.tensor([1, 2]))


def test_a_function_that_returns_no_tensor_is_refused():
    with pytest.raises(GraphError, match=r"\[vjp\] got a function that returns float"):
        mg.vjp(lambda x: 1.0, array(1.0))
    with pytest.raises(GraphError, match=r"\[checkpoint\] got a function that returns tuple"):
        mg.checkpoint(lambda x: (x, 1.0), array(1.0))


def test_a_cotangent_of_another_shape_or_dtype_is_refused():
    _, pull = mg.vjp(lambda x: x * x, array(1.0, 2.0))
    for g in (array(1.0), mg.tensor([1.0, 1.0])):
        with pytest.raises(GraphError, match="cotangent"):
            pull(g)
    with pytest.raises(GraphError, match=r"\[vjp\] got 2 cotangents, expected 1"):
        pull((array(1.0, 1.0), array(1.0, 1.0)))


# ------------------------------------------------------------------------------------------------ checkpoint


def block(p, x):
    """Two layers with a parameter from the arguments and one from outside."""
    return mg.tanh(W[:, :3] @ mg.sin(p * x)) + OUTSIDE * x


OUTSIDE = mg.tensor(np.array([0.5, -1.0, 2.0]), requires_grad=True)


def gradients(use):
    """Gradients of p, x and OUTSIDE of a loss of two blocks."""
    OUTSIDE.grad = None
    p, x = (mg.tensor(random(i, 3), requires_grad=True) for i in range(2))
    (use(block, p, use(block, p, x)) * random(2, 3)).sum().backward()
    return [p.grad, x.grad, OUTSIDE.grad]


def test_checkpoint_equals_the_plain_call_for_inputs_and_closures():
    plain = gradients(lambda f, *args: f(*args))
    for use in (mg.checkpoint, lambda f, *args: mg.checkpoint(lambda *a: mg.checkpoint(f, *a), *args)):
        for a, b in zip(gradients(use), plain, strict=True):
            close(a, b, 1e-13)


def test_checkpoint_takes_containers_integers_and_constants_and_unused_results():
    table = mg.tensor(random(0, 5, 3), requires_grad=True)

    def f(p, rows, scale):
        e = mg.embedding(p["table"], rows) * scale
        return {"even": e[::2], "odd": mg.sin(e[1::2])}

    rows = mg.tensor([4, 0, 0, 3])
    f({"table": table}, rows, 2.0)["odd"].sum().backward()
    expected, table.grad = table.grad, None
    out = mg.checkpoint(f, {"table": table}, rows, 2.0)
    assert sorted(out) == ["even", "odd"]
    out["odd"].sum().backward()
    close(table.grad, expected)


def test_second_derivatives_go_through_a_checkpoint():
    x, v = random(0, 4), random(1, 4)

    def by_checkpoint(x):
        return mg.checkpoint(scalar, x) + mg.checkpoint(mg.sin, x).sum()

    def plain(x):
        return scalar(x) + mg.sin(x).sum()

    close(mg.hvp(by_checkpoint, x, v), mg.hvp(plain, x, v))
    close(mg.hessian(by_checkpoint)(x), mg.hessian(plain)(x))
    mg.testing.check_grad(by_checkpoint, x)


def test_a_gradient_penalty_goes_through_a_checkpoint():
    OUTSIDE.grad = None
    x, one = random(0, 3), mg.tensor(np.ones(3))
    g = mg.grad(lambda x: mg.checkpoint(block, one, x).sum())(x)
    (g * g).sum().backward()
    found, OUTSIDE.grad = OUTSIDE.grad, None
    g = mg.grad(lambda x: block(one, x).sum())(x)
    (g * g).sum().backward()
    close(found, OUTSIDE.grad)


def test_checkpoint_of_constants_and_inside_no_grad_records_nothing():
    x = mg.tensor([1.0], requires_grad=True)
    with mg.no_grad():
        assert not mg.checkpoint(mg.sin, x).requires_grad
    assert not mg.checkpoint(mg.sin, x.detach()).requires_grad
    both = mg.checkpoint(lambda x: (x > 0.0, mg.sin(x), x.detach()), x)
    assert [y.requires_grad for y in both] == [False, True, False]


def peak_of(use):
    """Largest memory in use during forward and backward of 8 blocks of 8 operations, in arrays."""
    x = mg.tensor(np.ones(100_000), requires_grad=True)

    def eight(x):
        for _ in range(8):
            x = mg.sin(x)
        return x

    tracemalloc.start()
    y = x
    for _ in range(8):
        y = use(eight, y)
    y.sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / x.data.nbytes


def test_checkpoint_keeps_results_of_blocks_and_computes_the_rest_again():
    assert peak_of(lambda f, x: f(x)) > 60
    assert peak_of(mg.checkpoint) < 25
