"""What is recorded, what is freed, who gets a gradient, and that buffers die when they should."""

import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import GraphError


def leaf(*values):
    return mg.tensor(np.array(values), requires_grad=True)


def test_a_second_walk_through_a_freed_graph_names_the_cure():
    x = leaf(1.0, 2.0)
    h = mg.sin(x)
    y, z = (h * h).sum(), h.sum()
    y.backward()
    before = x.grad.tolist()
    for again in (y, z):
        with pytest.raises(GraphError, match=r"freed.*retain_graph=True"):
            again.backward()
    assert x.grad.tolist() == before


def test_a_retained_graph_is_walked_again_and_gradients_add_up():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 8]


def test_gradients_of_two_graphs_add_up_until_set_to_none():
    x = leaf(1.0, 2.0)
    (x * 3.0).sum().backward()
    (x * 4.0).sum().backward()
    assert x.grad.tolist() == [7, 7]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_only_leaves_get_a_gradient():
    x, constant = leaf(1.0), mg.tensor(np.array([2.0]))
    h = x * constant
    y = h.sum()
    y.backward()
    assert x.grad.tolist() == [2] and x.is_leaf
    assert h.grad is None and y.grad is None and constant.grad is None and not h.is_leaf


def test_a_leaf_may_be_the_result_itself():
    x = leaf(1.0, 2.0)
    g = np.array([3.0, 4.0])
    x.backward(g)
    assert x.grad.tolist() == [3, 4]
    assert not np.may_share_memory(x.grad.data, g)


def test_a_result_that_does_not_depend_on_a_leaf_leaves_it_without_a_gradient():
    x, other = leaf(1.0), leaf(1.0)
    x.sum().backward()
    assert other.grad is None


def test_cotangents_of_unused_results_are_zero():
    x = leaf(1.0, 2.0, 3.0)
    _, middle, _ = mg.unstack(x)
    (middle * middle).backward()
    assert x.grad.tolist() == [0, 4, 0]


def test_create_graph_records_the_pass():
    x = leaf(2.0)
    (x * x * x).sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    assert first.requires_grad and first.tolist() == [12]
    first.backward(np.ones(1))
    assert x.grad.tolist() == [12] and not x.grad.requires_grad


def test_without_create_graph_the_gradient_is_a_constant():
    x = leaf(2.0)
    (x * x * x).sum().backward(retain_graph=True)
    assert not x.grad.requires_grad and x.grad.is_leaf


def test_nothing_is_recorded_inside_no_grad():
    x = leaf(1.0)
    with mg.no_grad():
        y = x * x
        with mg.enable_grad():
            z = x * x
        w = x * x
    assert not y.requires_grad and z.requires_grad and not w.requires_grad
    assert (x * x).requires_grad


def test_no_grad_decorates_a_function_and_ends_with_an_error():
    x = leaf(1.0)

    @mg.no_grad()
    def f(fails):
        if fails:
            raise KeyError
        return x * x

    assert not f(False).requires_grad
    with pytest.raises(KeyError):
        f(True)
    assert (x * x).requires_grad


def test_detach_cuts_the_tape_and_keeps_the_values():
    x = leaf(3.0)
    y = x * (x * x).detach()
    y.sum().backward()
    assert x.grad.tolist() == [9]


def test_integers_and_comparisons_are_not_recorded():
    x = leaf(1.0, -1.0)
    assert not (x > 0.0).requires_grad and not x.astype("int64").requires_grad and not mg.sign(x).requires_grad


def test_data_replaced_after_the_forward_pass_is_an_error_and_not_a_wrong_gradient():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (x * w).sum()
    w.data = w.data + 1.0  # as an optimiser does
    with pytest.raises(GraphError, match=r"'mul' whose data was replaced.*before optimizer.step"):
        y.backward()
    assert x.grad is None


def test_a_cast_to_the_same_dtype_is_the_tensor_itself():
    x = leaf(1.0)
    assert x.astype("float64") is x


def test_astype_brings_the_gradient_back_in_the_old_dtype():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x.astype("float64") * 3.0).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [3, 3]


# ------------------------------------------------------------------------------------------------ memory


@pytest.fixture
def without_collector():
    """What dies here dies because nothing refers to it, and no cycle keeps it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def recurrent(x, w):
    """A small graph with reuse, several results and broadcasting; the buffers between, weakly."""
    buffers, h = [], mg.tensor(np.zeros((2, 3)))
    for x_t in mg.unstack(x):
        h = mg.tanh(x_t @ w + h * 0.5)
        a, b = mg.split(h, [1])
        h = mg.concat([b, mg.softmax(a)])
        buffers += [weakref.ref(t.data) for t in (h, b)] + [weakref.ref(h)]
    return (h * h).sum(), buffers


def inputs():
    rng = np.random.default_rng(0)
    return [mg.tensor(rng.standard_normal(s), requires_grad=True) for s in ((4, 2, 3), (3, 3))]


def test_buffers_die_with_the_backward_pass_while_the_loss_lives(without_collector):
    loss, buffers = recurrent(*inputs())
    assert all(b() is not None for b in buffers)
    loss.backward()
    assert all(b() is None for b in buffers) and np.isfinite(loss.item())


def test_buffers_of_a_graph_that_is_dropped_die_at_once(without_collector):
    loss, buffers = recurrent(*inputs())
    del loss
    assert all(b() is None for b in buffers)


def test_buffers_die_at_once_inside_no_grad(without_collector):
    with mg.no_grad():
        _, buffers = recurrent(*inputs())
    assert all(b() is None for b in buffers)


def gradient_by_checkpoint(x, w):
    x, w = mg.tensor(x, requires_grad=True), mg.tensor(w, requires_grad=True)
    mg.checkpoint(lambda x, w: recurrent(x, w)[0], x, w).backward()


DERIVATIVES = {
    "grad": lambda x, w: mg.grad(lambda w: recurrent(x, w)[0])(w),
    "hvp": lambda x, w: mg.hvp(lambda w: recurrent(x, w)[0], w, w),
    "jvp": lambda x, w: mg.jvp(lambda w: recurrent(x, w)[0], (w,), (w,)),
    "checkpoint": gradient_by_checkpoint,
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_transforms_leave_no_cycle_behind(name, without_collector):
    x, w = (t.detach() for t in inputs())
    DERIVATIVES[name](x, w)  # compiling leaves cycles of its own
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        DERIVATIVES[name](x, w)
        gc.collect()
        kept = [o for o in gc.garbage if isinstance(o, (mg.Tensor, np.ndarray, mg.engine.Node))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert kept == []


def test_backward_after_an_optimiser_step_is_an_error():
    w, x = mg.tensor([2.0], requires_grad=True), mg.tensor([3.0], requires_grad=True)
    y = (w * x).sum()
    w.grad = mg.tensor([1.0])
    mg.optim.SGD([w], 1.0).step()
    with pytest.raises(mg.errors.GraphError, match="replaced after the forward pass"):
        y.backward()


# ------------------------------------------------------------------------------------------------ operations of users


def test_a_forward_in_numpy_may_give_a_number():
    square = mg.Operation("square_sum", lambda _, x: (x * x).sum(), (lambda g, y, x: g * 2.0 * x,))
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.apply(square, (x,))
    assert y.shape == () and y.item() == 5.0 and "5." in repr(y)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 4.0])


@pytest.mark.parametrize(
    ("forward", "vjp", "message"),
    [
        (lambda _, x: list(x), None, "forward that returns list, expected an array"),
        (lambda _, x: x * 2, lambda g, y, x: g * 2, "got a Tensor, by the rule of 'twice', expected a tuple of 1"),
        (lambda _, x: x * 2, lambda g, y, x: (g, g), "got 2 cotangents, by the rule of 'twice', expected a tuple of 1"),
        (lambda _, x: x * 2, (lambda g, y, x: g.numpy(),), "got a ndarray for input 0, by the rule of 'twice'"),
    ],
)
def test_mistakes_in_an_operation_of_a_user_are_named(forward, vjp, message):
    op = mg.Operation("twice", forward, vjp)
    with pytest.raises(GraphError, match=message):
        mg.apply(op, (mg.tensor([1.0, 2.0], requires_grad=True),)).sum().backward()
