"""Gradients of tables that hold only the rows that were read: equal to dense ones, and steps of those rows alone."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.kernels import sparse
from minigrad.testing import check_grad
from minigrad.testing.strategies import SEEDS

DTYPES = st.sampled_from([np.float32, np.float64])
V, D = 12, 3
INDICES = st.lists(st.integers(0, V - 1), max_size=40)  # repeated ones, and none
MAKE = {
    "sgd": lambda p: optim.SGD(p, 0.1),
    "adagrad": lambda p: optim.Adagrad(p, 0.1),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9),
    "decay": lambda p: optim.SGD(p, 0.1, weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.5),
    "adam": lambda p: optim.Adam(p, 0.1, weight_decay=0.2),
    "adamw": lambda p: optim.AdamW(p, 0.1, weight_decay=0.2),
}
every_kind = pytest.mark.parametrize("kind", MAKE)


def table(seed, dtype=np.float32, shape=(V, D)):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


def pull(weight, indices, seed, sparse):
    """weight.grad += the gradient for a random cotangent, which is returned."""
    y = mg.embedding(weight, np.array(indices, int), sparse=sparse)
    g = np.random.default_rng(seed).standard_normal(y.shape).astype(weight.dtype)
    y.backward(mg.Tensor(g))
    return g


def holds_rows(g):
    return type(g.data) is sparse.Rows


@given(indices=INDICES, seed=SEEDS, dtype=DTYPES, width=st.sampled_from([(), (1,), (D,), (2, 17)]))
def test_the_gradient_equals_the_dense_one_and_holds_the_rows_read(indices, seed, dtype, width):
    one, other = table(seed, dtype, (V, *width)), table(seed, dtype, (V, *width))
    g, _ = pull(one, indices, seed, True), pull(other, indices, seed, False)
    assert holds_rows(one.grad) and not holds_rows(other.grad)
    assert (one.grad.shape, one.grad.dtype, one.grad.device) == (one.shape, dtype, "cpu")
    assert one.grad.data.positions.tolist() == sorted(set(indices))
    assert len(one.grad.data.values) == len(set(indices))
    np.testing.assert_array_equal(one.grad.numpy(), other.grad.numpy())  # the same order of additions
    assert not np.may_share_memory(one.grad.data.values, g)
    assert not one.grad.numpy().flags.writeable


@given(first=INDICES, second=INDICES, seed=SEEDS, kinds=st.tuples(st.booleans(), st.booleans()))
def test_two_backward_passes_add_up_whatever_their_kinds(first, second, seed, kinds):
    one, other = table(seed, np.float64), table(seed, np.float64)
    pull(one, first, seed, kinds[0])
    before = one.grad.numpy().copy()
    kept = one.grad
    pull(one, second, seed + 1, kinds[1])
    pull(other, first, seed, False)
    pull(other, second, seed + 1, False)
    assert holds_rows(one.grad) == all(kinds)
    np.testing.assert_allclose(one.grad.numpy(), other.grad.numpy(), atol=1e-14)
    np.testing.assert_array_equal(kept.numpy(), before)


@given(indices=INDICES, seed=SEEDS, turn=st.booleans())
def test_a_table_that_is_also_the_head_takes_both_gradients(indices, seed, turn):
    ids = np.array(indices, int)

    def gradient(is_sparse):
        w = table(seed, np.float64)
        h = mg.embedding(w, ids, sparse=is_sparse)
        loss = mg.linear_cross_entropy(h, w, ids) if turn else mg.square(h @ w.T).sum()
        loss.backward()
        return w.grad

    found = gradient(True)
    assert not holds_rows(found)
    np.testing.assert_allclose(found.numpy(), gradient(False).numpy(), atol=1e-12)


def test_a_gradient_that_flows_on_is_dense():
    w = table(0)
    mg.embedding(w * 2.0, [1, 1], sparse=True).sum().backward()
    assert not holds_rows(w.grad)
    np.testing.assert_array_equal(w.grad.numpy(), np.eye(V)[1][:, None] * np.full(D, 4.0))


def test_derivatives_of_every_order_equal_numerical_ones():
    w = np.random.default_rng(0).standard_normal((V, D))
    check_grad(lambda w: mg.tanh(mg.embedding(w, [3, 3, 0], sparse=True)), w, order=3)


def test_a_recorded_backward_gives_a_dense_gradient_that_can_be_differentiated():
    w = table(0, np.float64)
    mg.square(mg.embedding(w, [1, 1, 2], sparse=True)).sum().backward(create_graph=True)
    first, w.grad = w.grad, None
    mg.square(first).sum().backward()
    weights = np.zeros((V, 1))
    weights[1], weights[2] = 4, 2
    np.testing.assert_allclose(w.grad.numpy(), 2 * weights**2 * w.numpy())


def test_transforms_and_arithmetic_take_such_gradients():
    w = table(0, np.float64).detach()
    g = mg.grad(lambda w: mg.square(mg.embedding(w, [4, 4, 7], sparse=True)).sum())(w)
    assert holds_rows(g)
    d = mg.Tensor(g.numpy().copy())
    for f, keeps in [
        (lambda g: g * 2.0, True), (lambda g: 0.5 * g, True), (lambda g: -g, True), (lambda g: g / 3.0, True),
        (lambda g: mg.clip(g, -0.5, 0.25), True), (lambda g: g + 1.0, False), (lambda g: g * math.inf, False),
        (lambda g: g + w, False), (lambda g: w + g, False), (lambda g: w - g, False), (lambda g: g * w, False),
        (lambda g: w * g, False), (lambda g: g + w[0], False), (lambda g: mg.where(True, g, w), False),
        (lambda g: g.sum(0), False), (lambda g: g.T @ w, False), (lambda g: w @ g.T, False), (lambda g: g[4], False),
        (lambda g: mg.concat([w, g]), False), (lambda g: mg.stack([g, g]), False), (lambda g: mg.exp(g), False),
        (lambda g: mg.softmax(g), False), (lambda g: g.reshape(-1), False), (lambda g: g.astype(np.float32), False),
        (lambda g: mg.tensor(g), False), (lambda g: g > 0.0, True), (lambda g: g * w[0], False),
    ]:  # fmt: skip
        with np.errstate(invalid="ignore"):
            found = f(g)
            np.testing.assert_allclose(found.numpy(), f(d).numpy(), rtol=1e-14)
        assert holds_rows(found) == keeps
    assert repr(g) == repr(d)


# ------------------------------------------------------------------------------------------------ optimisers


def train(kind, is_sparse, steps, seed, dtype, clip=None):
    w = table(seed, dtype)
    opt = MAKE[kind]([w])
    for i, indices in enumerate(steps):
        opt.zero_grad()
        pull(w, indices, seed + i, is_sparse)
        if clip:
            clip(w)
        opt.step()
    return w, opt


STEPS = st.lists(INDICES, min_size=1, max_size=4)


@pytest.mark.parametrize("kind", ["sgd", "adagrad"])
@given(steps=STEPS, seed=SEEDS, dtype=DTYPES)
def test_sgd_and_adagrad_step_exactly_as_with_the_dense_gradient(kind, steps, seed, dtype):
    one, _ = train(kind, True, steps, seed, dtype)
    other, _ = train(kind, False, steps, seed, dtype)
    np.testing.assert_array_equal(one.numpy(), other.numpy())


@every_kind
@given(steps=STEPS, seed=SEEDS)
def test_every_optimiser_steps_the_rows_read_and_no_others(kind, steps, seed):
    """Against a table of the rows read alone, with its own buffers and the table's count of steps."""
    found, opt = train(kind, True, steps, seed, np.float64)
    expected, buffers = table(seed, np.float64).numpy().copy(), {}
    reference = MAKE[kind]([table(0)])
    for i, indices in enumerate(steps):
        rows = sorted(set(indices))
        g = np.random.default_rng(seed + i).standard_normal((len(indices), D))
        own = mg.Tensor(expected[rows], requires_grad=True)
        own.grad = mg.Tensor(np.array([g[np.array(indices) == r].sum(0) for r in rows]).reshape(-1, D))
        reference.parameters, reference.steps = [own], [i]
        zero = [np.zeros((1, D))] * reference.buffers
        parts = zip(*[buffers.get(r, zero) for r in rows])
        reference._state = [[np.concatenate(part) for part in parts] or [np.zeros((0, D))] * reference.buffers]
        reference.step()
        expected[rows] = own.numpy()
        for j, r in enumerate(rows):
            buffers[r] = [b[j : j + 1] for b in reference._state[0]]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)
    untouched = sorted(set(range(V)) - {r for indices in steps for r in indices})
    np.testing.assert_array_equal(found.numpy()[untouched], table(seed, np.float64).numpy()[untouched])
    assert opt.steps == [len(steps)]


def test_lazy_adam_equals_its_equations():
    """One row read in steps 1 and 3 of 3: its means wait, the corrections count all steps (PyTorch's SparseAdam)."""
    w, start = table(0, np.float64), table(0, np.float64).numpy()
    opt, m, v, x = optim.Adam([w], lr=0.1), 0.0, 0.0, start[5].copy()
    for t, rows in enumerate(([5], [2], [5, 5]), 1):
        opt.zero_grad()
        g = pull(w, rows, t, True).sum(0)
        opt.step()
        if 5 in rows:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            x -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(w.numpy()[5], x, rtol=1e-12)


def test_a_step_writes_rows_in_place_but_never_into_an_array_that_somebody_gave():
    given_array = np.ones((V, D), np.float32)
    w = mg.Tensor(given_array, requires_grad=True)
    opt = optim.Adam([w])
    seen = [w.data]
    for _ in range(3):
        w.grad = None
        pull(w, [1], 0, True)
        opt.step()
        assert all(w.data is not other for other in seen)
        seen.append(w.data)
    assert np.may_share_memory(seen[1], seen[2]) and np.may_share_memory(seen[2], seen[3])
    np.testing.assert_array_equal(given_array, np.ones((V, D)))
    w.data = given_array  # as load_state_dict and users do
    opt.step()
    np.testing.assert_array_equal(given_array, np.ones((V, D)))


def test_backward_after_a_step_in_place_is_an_error():
    w = table(0)
    opt = optim.SGD([w], 0.1)
    for _ in range(2):
        loss = mg.square(mg.embedding(w, [1], sparse=True)).sum()
        loss.backward(retain_graph=True)
        opt.step()
        with pytest.raises(mg.errors.GraphError, match="whose data was replaced"):
            loss.backward()


@every_kind
@pytest.mark.parametrize("by_pickle", [False, True])
def test_a_state_continues_to_the_last_bit(kind, by_pickle):
    steps = [[0, 3, 3], [5], [3, 0, 11]]
    one, opt = train(kind, True, steps, 0, np.float32)
    again = mg.tensor(one.numpy(), requires_grad=True)
    if by_pickle:
        resumed = pickle.loads(pickle.dumps(opt))
        (again,) = resumed.parameters
    else:
        resumed = MAKE[kind]([again])
        resumed.load_state_dict(opt.state_dict())
    for w, o in ((one, opt), (again, resumed)):
        o.zero_grad()
        pull(w, [3, 7], 9, True)
        o.step()
    assert one.numpy().tobytes() == again.numpy().tobytes()


def test_dense_and_sparse_gradients_may_take_turns():
    def run(kinds):
        w = table(0)
        opt = optim.SGD([w], 0.1)
        taken = []
        for i, is_sparse in enumerate(kinds):
            opt.zero_grad()
            pull(w, [1, 2], i, is_sparse)
            opt.step()
            taken.append(w.numpy().copy())
        return taken

    for one, other in zip(run([True, False, True, True]), run([False] * 4)):
        np.testing.assert_array_equal(one, other)


def test_copies_of_a_gradient_are_gradients():
    w = table(0)
    pull(w, [1, 5], 0, True)
    for again in (copy.deepcopy(w.grad), pickle.loads(pickle.dumps(w.grad))):
        np.testing.assert_array_equal(again.numpy(), w.grad.numpy())
        assert holds_rows(again)


# ------------------------------------------------------------------------------------------------ clipping, modes


@given(indices=INDICES, seed=SEEDS, most=st.sampled_from((0.01, 1.0, 1e6)))
def test_clipping_by_norm_counts_repeated_rows_once_and_keeps_the_rows(indices, seed, most):
    ws = table(seed, np.float64), table(seed, np.float64)
    for w, is_sparse in zip(ws, (True, False)):
        pull(w, indices, seed, is_sparse)
    norms = [optim.clip_grad_norm_([w], most) for w in ws]
    assert norms[0] == pytest.approx(norms[1], rel=1e-12)
    assert holds_rows(ws[0].grad)
    np.testing.assert_allclose(ws[0].grad.numpy(), ws[1].grad.numpy(), rtol=1e-12)


@given(indices=INDICES, seed=SEEDS, most=st.sampled_from((0.1, 1.0)))
def test_clipping_by_value_sees_the_sum_of_repeated_rows(indices, seed, most):
    ws = table(seed), table(seed)
    for w, is_sparse in zip(ws, (True, False)):
        pull(w, indices, seed, is_sparse)
        optim.clip_grad_value_([w], most)
    assert holds_rows(ws[0].grad)
    np.testing.assert_array_equal(ws[0].grad.numpy(), ws[1].grad.numpy())


def test_anomaly_mode_names_the_embedding():
    w = table(0)
    with mg.detect_anomaly():
        y = mg.embedding(w, [1, 2], sparse=True)
        y.backward(mg.Tensor(np.ones((2, D), np.float32)))
        y = mg.embedding(w, [1, 2], sparse=True)
        with pytest.raises(mg.errors.AnomalyError, match=r"\[embedding\] backward gave 3 NaN"):
            y.backward(mg.Tensor(np.array([[1] * D, [np.nan] * D], np.float32)))


def test_a_model_with_a_sparse_embedding_trains_and_repeats_itself():
    def run():
        embedding, head = nn.Embedding(V, D, sparse=True, generator=0), nn.Linear(D, V, generator=0)
        parameters = embedding.parameters() + head.parameters()
        opt, ids, losses = optim.Adam(parameters, 0.1), np.array([1, 2, 3, 1, 2, 3, 1]), []
        for _ in range(60):
            opt.zero_grad()
            loss = mg.linear_cross_entropy(embedding(ids[:-1]), head.weight, ids[1:], head.bias)
            loss.backward()
            optim.clip_grad_norm_(parameters, 1.0)
            opt.step()
            losses.append(loss.item())
        return losses, [p.numpy().tobytes() for p in parameters]

    first, second = run(), run()
    assert first[0][-1] < 0.05 < first[0][0]
    assert first == second
    assert nn.Embedding(V, D, sparse=True, generator=0).state_dict().keys() == {"weight"}


def test_large_tables_on_all_threads_equal_dense_ones():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2000, 3000)
    one, other = table(0, shape=(2000, 64)), table(0, shape=(2000, 64))
    for w, is_sparse in ((one, True), (other, False)):
        pull(w, ids, 1, is_sparse)
        optim.Adagrad([w], 0.1).step()
    np.testing.assert_array_equal(one.grad.numpy(), other.grad.numpy())
    np.testing.assert_array_equal(one.numpy(), other.numpy())
