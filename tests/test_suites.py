"""The shared property suites accept what is right, and find planted faults of every clause."""

import sys

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.engine import Operation, apply
from minigrad.errors import UserError
from minigrad.testing import GradientError, op_test, pair_test
from minigrad.testing.layout import shared
from minigrad.testing.strategies import arguments, arrays, broadcastable_arrays, indices
from minigrad.testing.suites import SuiteError

EXAMPLES = 60
RNG = np.random.default_rng(0)


def planted(forward, *rules):
    """A function of tensors with these gradient rules, right or wrong."""
    op = Operation("planted", lambda k, *xs: np.asarray(forward(*xs)), rules)
    return lambda *xs: apply(op, xs)


def cos(g, y, x):
    return g * mg.cos(x)


def writes(x):
    y = np.sin(x)
    if x.flags.writeable and x.size:
        x[...] = 0
    return y


def by_strides(x):
    """Right for an array in C order only."""
    return np.sin(x).ravel(order="A").reshape(x.shape)


def mixed(a, b):
    return a.astype(np.float64) * b


def unstable(x):
    return np.sin(x) * (1 + 1e-3 * RNG.random())


def alone(g, y, a, b):
    """Wrong where b requires no gradient."""
    return g * b if b.requires_grad else g * b * 1.01


def at_size_one(g, y, x):
    return cos(g, y, x) * (2.0 if x.size == 1 else 1.0)


def at_ties(g, y, x):
    _, counts = np.unique(x.numpy(), return_counts=True)
    return cos(g, y, x) * (1.5 if (counts > 1).any() else 1.0)


TWO = broadcastable_arrays(2)
SINE = arrays()
right = planted(np.sin, cos)

OPERATIONS = {
    "a factor of 1.0005": (planted(np.sin, lambda g, y, x: cos(g, y, x) * 1.0005), SINE, {}, "order 1"),
    "a sign": (planted(np.subtract, lambda g, y, a, b: g, lambda g, y, a, b: g), TWO, {}, "order 1"),
    "operands exchanged": (
        planted(np.multiply, lambda g, y, a, b: g * a, lambda g, y, a, b: g * b), TWO, {}, "order 1"),
    "no gradient for the second input": (planted(np.multiply, lambda g, y, a, b: g * b, None), TWO, {}, "order 1"),
    "a size of one": (planted(np.sin, at_size_one), SINE, {}, "order 1"),
    "ties": (planted(np.sin, at_ties), SINE, {}, "order 1"),
    "the second derivative": (planted(np.sin, lambda g, y, x: g * mg.cos(x.detach())), SINE, {}, "order 2"),
    "values, against an oracle": (right, SINE, {"oracle": lambda x: np.sin(x) + 1e-3}, "values in float"),
    "values in a layout": (planted(by_strides, cos), SINE, {}, "values in float"),
    "a written input": (planted(writes, cos), SINE, {}, "inputs unchanged"),
    "a result of another dtype": (planted(mixed, lambda g, y, a, b: g, None), TWO, {}, "values: got dtype float64"),
    "two runs that differ": (planted(unstable, cos), SINE, {}, "repeatable"),
    "memory of the input": (planted(lambda x: x * x / 2, lambda g, y, x: mg.Tensor(x.data)), SINE, {}, "no aliasing"),
    "an input that needs the others' gradients": (
        planted(np.multiply, alone, lambda g, y, a, b: g * a), TWO, {}, "gradient of input 0"),
}  # fmt: skip


@pytest.fixture
def found_as_it_is():
    """The first failure is enough: looking for the smallest one takes most of the time."""
    before = settings.get_current_profile_name()
    settings.register_profile("no shrinking", settings.get_profile(before), phases=[Phase.generate])
    settings.load_profile("no shrinking")
    yield
    settings.load_profile(before)


@pytest.mark.usefixtures("found_as_it_is")
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_planted_fault_of_an_operation_is_found(name):
    f, inputs, options, said = OPERATIONS[name]
    with pytest.raises((SuiteError, GradientError), match=said):
        op_test(f, inputs, examples=EXAMPLES, **options)()


def two_results(spoil=1.0):
    """sin and cos of x; the gradient is wrong where the second result is not used."""

    def rule(g, y, x):
        gs, gc = g
        if gc is None:
            return (gs * mg.cos(x) * spoil,)
        return ((gs * mg.cos(x) if gs is not None else 0.0) - gc * mg.sin(x),)

    op = Operation("two results", lambda k, x: (np.asarray(np.sin(x)), np.asarray(np.cos(x))), rule)
    return lambda x: apply(op, (x,))


def plain(x):
    return mg.sin(x), mg.cos(x)


PAIRS = {
    "a value": (lambda x: mg.sin(x) + 1e-3, mg.sin, "values in float"),
    "a gradient": (planted(np.sin, lambda g, y, x: cos(g, y, x) * 1.001), mg.sin, "gradient of input 0"),
    "a second derivative": (planted(np.sin, lambda g, y, x: g * mg.cos(x.detach())), mg.sin, "second derivative"),
    "a shape": (lambda x: mg.sin(x).sum(), lambda x: mg.sin(x).sum(keepdims=True), "got shape"),
    "a result left out": (mg.sin, plain, "got 1 results, expected 2"),
    "a result that is not used": (two_results(1.01), plain, "gradient of input 0"),
}


@pytest.mark.usefixtures("found_as_it_is")
@pytest.mark.parametrize("name", PAIRS)
def test_a_planted_fault_of_a_fast_path_is_found(name):
    fast, definition, said = PAIRS[name]
    with pytest.raises(SuiteError, match=said):
        pair_test(fast, definition, SINE, examples=EXAMPLES)()


def test_the_same_is_right_without_the_fault():
    pair_test(two_results(), plain, SINE, examples=EXAMPLES)()
    op_test(two_results(), examples=EXAMPLES)()
    op_test(right, SINE, oracle=np.sin, examples=EXAMPLES)()
    op_test(planted(np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a), TWO, examples=EXAMPLES)()


test_softsign = op_test(lambda x: x / (1.0 + mg.abs(x)), smooth=False)
test_an_operation_of_two = op_test(lambda a, b: mg.tanh(a) * b, order=3)
test_by_the_name_in_the_registry = op_test("logsumexp")
test_by_the_function_of_the_registry = op_test(mg.softmax, examples=10)
test_options = op_test(lambda x, axis: mg.cumsum(x, axis), arguments(arrays((2, 3)), axis=st.integers(-2, 1)))
test_indices = op_test(mg.embedding, arguments(arrays((4, 2)), indices(4, negative=False)), oracle=lambda w, i: w[i])
test_nested = op_test(lambda xs: mg.concat(xs), st.tuples(st.lists(arrays((2, 3)), min_size=1, max_size=3)))
test_pair = pair_test(mg.softplus, lambda x: mg.log(1.0 + mg.exp(x)), arrays())


def test_an_operation_object_brings_its_number_of_inputs():
    op = Operation("product", lambda k, a, b: np.asarray(a * b), (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a))
    op_test(op, examples=10)()


def test_a_failure_names_the_operation_and_shows_the_smallest_input_as_code():
    with pytest.raises(GradientError) as caught:
        op_test(OPERATIONS["a sign"][0], arguments(arrays((2,)), arrays((2,))), examples=20)()
    notes = "\n".join(caught.value.__notes__)
    assert "Arguments(" in notes and "array(shape=(2,), dtype=" in notes
    assert "layout='plain'" in notes and "values='even'" in notes


def past_sixteen(g, y, x):
    factor = np.ones(x.size, x.dtype)
    factor[16:] = 0.0
    return cos(g, y, x) * mg.tensor(factor.reshape(x.shape))


@pytest.mark.usefixtures("found_as_it_is")
def test_sizes_past_a_tile_are_drawn_by_default():
    with pytest.raises(GradientError, match="operation"):
        op_test(planted(np.sin, past_sixteen), arrays())()
    with pytest.raises(SuiteError, match="values in float"):
        pair_test(lambda x: mg.sin(x) * (1.0 if x.size < 17 else 1.1), mg.sin, arrays())()


def test_an_operation_object_is_placed_where_it_is_tested():
    op = Operation("wrong", lambda k, x: np.sin(x), (lambda g, y, x: g * 2.0,))
    test, line = op_test(op, examples=10), sys._getframe().f_lineno
    with pytest.raises(GradientError, match=f"test_suites.py:{line}: its own gradient is wrong"):
        test()


def test_an_object_whose_name_is_none_can_be_tested():
    class Layer:
        name = None

        def __call__(self, x):
            return mg.tanh(x)

    op_test(Layer(), arrays(), examples=2)()


def test_parts_of_one_array_share_no_memory():
    both = np.zeros((3, 4))
    left, right = np.split(both, 2, axis=1)
    assert shared([left, right], [], []) == ""
    assert "gradient 1 shares memory with gradient 0" in shared([left, both], [], [])


def test_every_example_and_check_is_counted():
    from minigrad.testing.tally import Tally

    before = Tally.checks, Tally.examples
    op_test(mg.tanh, examples=5)()
    assert Tally.checks - before[0] >= 5 and Tally.examples - before[1] >= 10


@pytest.mark.parametrize(("make", "said"), [
    (lambda: op_test("no such operation"), "the name of a registered operation"),
    (lambda: op_test(lambda *xs: xs), "a strategy of its inputs"),
    (lambda: op_test(lambda x: x > 0.0)(), "results of dtype bool"),
    (lambda: op_test(mg.sin, st.just(np.arange(3)))(), "float arrays to differentiate by"),
    (lambda: op_test(mg.log, arrays(domain=(2.0, 1.0)))(), "which holds nothing"),
    (lambda: op_test(mg.log, np.ones(3)), "inputs of type ndarray, expected a strategy"),
    (lambda: op_test(np.sin, arrays()), "ufunc 'sin'.*check_vjp"),
    (lambda: op_test(mg.sin, order=0), "order=0, expected a whole number"),
    (lambda: op_test(mg.sin, order=1.5), "order=1.5"),
    (lambda: op_test(mg.sin, examples=0), "examples=0"),
    (lambda: pair_test(mg.sin, mg.sin, np.ones(3)), "expected a strategy"),
    (lambda: pair_test(mg.sin, mg.sin, arrays(), order=-1), "order=-1"),
])  # fmt: skip
def test_misuse_gets_a_clear_error(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_a_function_that_returns_no_tensor():
    with pytest.raises(SuiteError, match="got ndarray, expected a tensor"):
        op_test(lambda x: x.numpy())()
