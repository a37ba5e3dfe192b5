"""The backward pass: against a naive engine on random graphs, in order, and in cost."""

import time
import weakref
from contextlib import contextmanager

import naive
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

import minigrad as mg
from minigrad.engine import Operation, apply, observe, toposort
from minigrad.engine.backward import key
from minigrad.errors import GraphError
from minigrad.testing.strategies import SEEDS

SHAPES = [(3,), (2, 3), (), (2, 1)]
OPERATIONS = ("mul",) * 5 + ("add",) * 5 + ("unstack",) * 2 + ("sin", "cos", "leaf", "constant", "detach", "no_grad")
MOST_PATHS = 300  # the naive engine walks each of them


def cotangent(shape):
    return np.cos(1.0 + np.arange(np.prod(shape))).reshape(shape)


class Graphs(RuleBasedStateMachine):
    """Build a graph, walk it from anywhere, go on building: after each pass the leaves' gradients agree."""

    def __init__(self):
        super().__init__()
        self.pairs = []  # (tensor, value of the naive engine)
        self.leaves = []  # [tensor, value, the gradient expected]
        self.freed = set()
        for _ in SHAPES:
            self.leaf(True)

    def pair(self, x, v):
        np.testing.assert_allclose(x, v.array, rtol=1e-12, atol=1e-12)
        assert x.requires_grad == v.live
        self.pairs.append((x, v))

    def leaf(self, live):
        n = len(self.pairs)
        shape = SHAPES[n % len(SHAPES)]
        array = np.sin(n + np.arange(np.prod(shape))).reshape(shape)
        self.pair(mg.tensor(array, requires_grad=live), naive.Value(array, live=live))
        if live:
            self.leaves.append([*self.pairs[-1], None])

    @rule(n=st.integers(1, 20), seed=SEEDS)
    def grow(self, n, seed):
        """Operations on some of the last results."""
        rng = np.random.default_rng(seed)
        for f in rng.choice(OPERATIONS, n):
            (x, v), (y, w) = (self.pairs[-k] for k in rng.integers(1, min(len(self.pairs), 10), 2, endpoint=True))
            if f in ("add", "mul") and v.paths + w.paths <= MOST_PATHS:
                self.pair(getattr(mg, f)(x, y), getattr(naive, f)(v, w))
            elif f in ("sin", "cos"):
                self.pair(getattr(mg, f)(x), getattr(naive, f)(v))
            elif f == "unstack" and x.shape:
                for a, b in zip(mg.unstack(x), naive.unstack(v), strict=True):
                    self.pair(a, b)
            elif f in ("leaf", "constant"):
                self.leaf(f == "leaf")
            elif f == "detach":
                self.pair(x.detach(), naive.Value(v.array, live=False))
            elif f == "no_grad":
                with mg.no_grad():
                    self.pair(mg.sin(x), naive.Value(np.sin(v.array), live=False))

    @rule(i=st.integers(0, 9), retain=st.sampled_from((True, True, False)), order=st.sampled_from((1, 1, 2)))
    def backward(self, i, retain, order):
        y, v = self.pairs[-1 - i % len(self.pairs)]
        g = cotangent(y.shape)
        if not v.live or naive.units_below(v) & self.freed:
            with pytest.raises(GraphError):
                y.backward(g)
            return
        order = order if v.paths <= 30 else 1
        y.backward(g, retain_graph=retain, create_graph=order == 2)
        first = [naive.derivative(v, leaf[1], naive.Value(g, live=False)) for leaf in self.leaves]
        self.add_up(first)
        if order == 2:
            self.differentiate_gradients(first)
        elif not retain:
            self.freed |= naive.units_below(v)

    def differentiate_gradients(self, first):
        """Backward through sum(gradient * cotangent) over all leaves."""
        total, expected = mg.tensor(np.array(0.0)), []
        for (x, _, _), d in zip(self.leaves, first):
            if d is not None:
                total = total + (x.grad * mg.tensor(cotangent(x.shape))).sum()
                expected.append((d, naive.Value(cotangent(x.shape), live=False)))
            x.grad = x.grad if x.grad is None else x.grad.detach()
        if not total.requires_grad:
            assert not any(d.live for d, _ in expected)
            return
        total.backward()
        for d, _ in expected:
            self.freed |= naive.units_below(d)
        for d, c in expected:
            self.add_up([naive.derivative(d, leaf[1], c) for leaf in self.leaves], compare=False)
        self.compare()

    def add_up(self, terms, compare=True):
        for leaf, term in zip(self.leaves, terms):
            if term is not None:
                leaf[2] = term.array if leaf[2] is None else leaf[2] + term.array
        if compare:
            self.compare()

    def compare(self):
        for x, _, expected in self.leaves:
            assert (x.grad is None) == (expected is None)
            if expected is not None:
                np.testing.assert_allclose(x.grad, expected, rtol=1e-9, atol=1e-9)


TestGraphs = Graphs.TestCase


# ------------------------------------------------------------------------------------------------ order and cost


def test_a_tensor_used_twice_waits_for_both_cotangents():
    a = mg.tensor(1.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4


def test_results_of_one_operation_collect_the_cotangents_of_all_their_uses():
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    a, b = mg.unstack(x)
    (a * b + a * a + b).backward()
    assert x.grad.tolist() == [7, 3]


def test_toposort_puts_everything_once_and_behind_all_its_users():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    a, b = mg.split(x * x, 2)
    y = mg.sin(a) * b + mg.cos(a + b) * a
    order = toposort([key(y)])
    place = {id(k): i for i, k in enumerate(order)}
    assert len(place) == len(order) == 9
    for k in order[:-1]:
        assert all(place[id(key(i))] > place[id(k)] for i in k.inputs)
    assert order[-1] is x


def counting(rules):
    """An operation like sin(a) + sin(b) that counts how often its rules run."""

    def rule(i):
        def run(g, y, *xs):
            rules[0] += 1
            return g * mg.cos(xs[i])

        return run

    return Operation("counted", lambda k, a, b: np.asarray(np.sin(a) + np.sin(b)), (rule(0), rule(1)))


@pytest.mark.parametrize("n", [1, 10, 100, 1000])
def test_every_rule_runs_once_however_many_paths_there_are(n):
    rules = [0]
    op = counting(rules)
    x = mg.tensor(np.array(0.1), requires_grad=True)
    y = x
    for _ in range(n):
        y = apply(op, (y, y))  # 2^n paths
    y.backward()
    assert rules[0] == 2 * n and np.isfinite(x.grad.item())


@contextmanager
def work():
    """Operations run inside, and elements that they computed."""
    done = {"operations": 0, "elements": 0}

    def see(op, inputs, attrs, out):
        done["operations"] += 1
        done["elements"] += sum(y.size for y in (out if isinstance(out, tuple) else (out,)))

    with observe(see):
        yield done


def backward_work(n, read):
    x = mg.tensor(np.ones((n, 4)), requires_grad=True)
    rows = read(x)
    y = rows[0]
    for row in rows[1:]:
        y = mg.sin(y) * row
    with work() as done:
        y.sum().backward()
    return done, x.grad


def test_the_cost_of_a_gradient_is_linear_in_the_graph():
    (small, _), (large, _) = backward_work(50, mg.unstack), backward_work(500, mg.unstack)
    assert large["operations"] < 10.5 * small["operations"]
    assert large["elements"] < 10.5 * small["elements"]


def test_unstack_gives_the_gradient_of_indexing_without_its_quadratic_cost():
    one, gradient = backward_work(100, mg.unstack)
    many, expected = backward_work(100, lambda x: [x[i] for i in range(len(x))])
    np.testing.assert_allclose(gradient, expected, rtol=1e-14)
    assert many["elements"] > 20 * one["elements"]


def test_time_grows_about_as_the_graph_does():
    def seconds(n):
        x = mg.tensor(0.5, requires_grad=True)
        start = time.perf_counter()
        y = x
        for _ in range(n):
            y = mg.sin(y)
        y.backward()
        return time.perf_counter() - start

    small, large = min(seconds(500) for _ in range(5)), min(seconds(5000) for _ in range(3))
    assert large < 40 * small  # 10 if linear, 100 if quadratic


def test_a_chain_of_10_000_operations_goes_forward_backward_and_away():
    x = mg.tensor(np.array(0.5), requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y * 1.0001
    last = weakref.ref(y)
    y.backward()
    np.testing.assert_allclose(x.grad.item(), 1.0001**10_000, rtol=1e-9)
    del y
    assert last() is None


def test_a_long_chain_that_nobody_walked_is_freed_without_recursion():
    x = mg.tensor(0.5, requires_grad=True)
    y = first = mg.neg(x)
    first = weakref.ref(first.node)
    for _ in range(200_000):
        y = mg.neg(y)
    del y
    assert first() is None
