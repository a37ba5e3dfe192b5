"""Recurrences on a device: compiled, every cell equals its definition on the CPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")

import cells
import memory_cells
from test_cuda_driver import fake  # noqa: F401

import minigrad as mg
from minigrad.compiler.cuda.group import GroupLoop
from minigrad.compiler.fused import Call, kernel_of
from minigrad.engine.backward import pull_back
from minigrad.engine.tree import leaves, tree_map
from minigrad.kernels.cuda.graphs import Graphs
from minigrad.testing import simt
from minigrad.testing import strategies as mst

pytestmark = pytest.mark.cuda_sim
DEVICE = simt.device().name
TOLERANCE = {"float32": 5e-5, "float64": 1e-11}
few = settings(max_examples=max(3, settings.default.max_examples // 6))


@pytest.fixture(autouse=True)
def a_launch_each(monkeypatch):
    """For every event of every step; one for all steps is in ``test_cuda_group.py``."""
    monkeypatch.setattr(GroupLoop, "shape", lambda *_: None)


class Case:
    """A cell with random parameters, inputs and states, all of which want a gradient."""

    def __init__(self, name, T, B, I, H, dtype="float64", seed=0, S=3, **options):
        self.rng, self.dtype, self.options = np.random.default_rng(seed), dtype, options
        if name in memory_cells.NAMES:
            self.cell, params, shapes = memory_cells.draw(name, self.rng, I, H, S, dtype)
            state = tuple(self.draw(B, *shape) for shape in shapes)
            state = dict(zip(("above", "below", "keys"), state)) if name == "two_layers" else state
        else:
            self.cell, params, widths = cells.draw(name, self.rng, I, H, dtype)
            state = tree_map(lambda n: self.draw(B, n), widths)
        self.inputs = tree_map(lambda t: t.numpy(), params), self.draw(T, B, I), state

    def draw(self, *shape):
        return mg.Tensor(self.rng.standard_normal(shape).astype(self.dtype)).numpy()

    def call(self, device):
        """The call of ``scan``."""
        return Call(self.cell, *tree_map(lambda x: mg.tensor(x, True, device=device), self.inputs))

    def results(self, device, compiled=True, used=None, **options):
        """All outputs, and the cotangents of all inputs for random ones of the outputs ``used``."""
        call = self.call(device)
        ys, final = mg.scan(call.cell, call.params, call.xs, call.state, compiled=compiled, **self.options | options)
        outputs, rng = leaves(ys) + leaves(final), np.random.default_rng(1)
        gs = [mg.tensor(rng.standard_normal(y.shape).astype(self.dtype), device=device) for y in outputs]
        chosen = [i for i in range(len(outputs)) if used is None or used >> i & 1] or [0]
        inputs = leaves((call.xs, call.state, call.params))
        found = pull_back([outputs[i] for i in chosen], [gs[i] for i in chosen], inputs)
        return [y.numpy() for y in outputs] + [None if g is None else g.numpy() for g in found]

    def check(self, **options):
        """Compiled on the device, and by the definition on the CPU; gives the former."""
        assert not isinstance(kernel_of(self.call(DEVICE)), str)
        found = self.results(DEVICE, **options)
        for a, b in zip(found, self.results("cpu", compiled=False, **options), strict=True):
            a, b = (np.zeros(()) if x is None else x for x in (a, b))
            scale = max(float(np.abs(b).max(initial=0)), 1e-2)
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[self.dtype] * scale)
        return found


@st.composite
def cases(draw, name):
    T, B = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 3]))
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    return Case(name, T, B, draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2, 5])),
                draw(st.sampled_from(["float32", "float64"])), draw(st.integers(0, 999)), draw(st.integers(1, 4)),
                lengths=lengths, reverse=draw(st.booleans()),
                checkpoint_every=draw(st.none() | st.integers(1, 3)))  # fmt: skip


@pytest.mark.parametrize("name", cells.NAMES + memory_cells.NAMES)
def test_a_cell_on_a_device_equals_its_definition(name):
    @few
    @given(cases(name), st.integers(1, 15))
    def check(case, used):
        case.check(used=used)

    check()


@few
@given(mst.cells(), mst.lengths(3, 3), st.booleans())
def test_a_random_cell_on_a_device_equals_its_definition(cell, lengths, reverse):
    case = Case.__new__(Case)
    params, x, h = cell.draw(3, 3)
    case.cell, case.dtype, case.options = cell.function, "float64", {"lengths": lengths, "reverse": reverse}
    case.inputs = tree_map(lambda t: t.numpy(), (params, x, h))
    case.check()


@pytest.mark.parametrize("steps", [{"lengths": [0, 0]}, {"lengths": [1, 0], "checkpoint_every": 1}])
def test_no_steps_no_state_no_output(steps):
    x = mg.tensor(np.ones((3, 2, 2)), True, device=DEVICE)
    h = mg.tensor(np.full((2, 2), 5.0), True, device=DEVICE)
    ys, state = mg.scan(lambda p, x, s: (s, x * 2.0), None, x, None, lengths=[3, 1])
    assert state is None and ys.numpy()[:, 1].tolist() == [[2, 2], [0, 0], [0, 0]]
    ys, state = mg.scan(lambda p, x, s: (s + x, None), None, x, h, **steps)
    assert ys is None and state.numpy()[:, 0].tolist() == [5 + steps["lengths"][0], 5]
    d_x, d_h = pull_back([state], [h], [x, h])
    assert d_h.numpy().tolist() == h.numpy().tolist() and d_x.numpy().sum() == 10 * steps["lengths"][0]


@pytest.mark.parametrize("name", ["lstm", "layer_norm_lstm", "input_feeding"])
def test_two_runs_agree_to_the_last_bit(name):
    case = Case(name, 3, 3, 2, 17 if name == "lstm" else 5, "float32", lengths=[2, 3, 0])
    for a, b in zip(case.check(), case.results(DEVICE)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_lies_behind_the_ends_has_no_influence(reverse):
    case = Case("gru_before", 4, 3, 2, 3, lengths=[2, 4, 0], reverse=reverse)
    plain = case.results(DEVICE)
    p, x, state = case.inputs
    x = np.array(x)
    x[np.arange(4)[:, None] >= np.array([2, 4, 0])] = np.nan
    case.inputs = p, x, state
    for a, b in zip(plain, case.results(DEVICE)):
        np.testing.assert_array_equal(a, b)


def test_inputs_of_any_strides():
    case = Case("lstm", 3, 2, 3, 4)
    call = case.call(DEVICE)
    turned = mg.swapaxes(mg.tensor(np.swapaxes(case.inputs[1], 0, 2).copy(), device=DEVICE), 0, 2)
    ys, _ = mg.scan(call.cell, call.params, turned, call.state)
    np.testing.assert_array_equal(ys.numpy(), case.results(DEVICE)[0])


def test_cells_that_differ_in_sizes_only_share_their_kernels():
    small, large = (kernel_of(Case("input_feeding", 2, 2, 3, H, S=S).call(DEVICE)) for H, S in ((2, 3), (5, 4)))
    assert small is not large
    for a, b in ((small.forward, large.forward), (small.backward, large.backward)):
        kernels = [[e.kernel for e in p.steps.events if hasattr(e, "kernel")] for p in (a, b)]
        assert kernels[0] == kernels[1] and a.steps.source == b.steps.source


def test_second_derivatives_are_those_of_the_definition():
    case = Case("rnn_tanh", 2, 2, 2, 2)
    found = []
    for device, compiled in ((DEVICE, True), ("cpu", False)):
        call = case.call(device)
        inputs = leaves((call.xs, call.state, call.params))

        def loss(call=call, compiled=compiled):
            ys, final = mg.scan(call.cell, call.params, call.xs, call.state, compiled=compiled)
            return (ys * ys).sum() + final.sum()

        loss().backward(create_graph=True)
        first = [t.grad for t in inputs]
        for t in inputs:
            t.grad = None
        sum([(g * g).sum() for g in first[1:]], (first[0] * first[0]).sum()).backward()
        found.append([t.grad.numpy() for t in inputs])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("kind", [mg.nn.LSTM, mg.nn.GRU, mg.nn.RNN])
def test_layers_on_a_device_equal_those_on_the_cpu(kind):
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((3, 2, 4)).astype(np.float32), [3, 1]
    found = []
    for device in ("cpu", DEVICE):
        layer = kind(4, 5, num_layers=2, bidirectional=True, generator=0).to(device)
        given = mg.tensor(x, True, device=device)
        out, state = layer(given, None, lengths)
        loss = (out * out).sum() + sum((s * s).sum() for s in leaves(state))
        loss.backward()
        assert out.device == device
        found.append([out.numpy(), given.grad.numpy(), *[p.grad.numpy() for p in layer.parameters()]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_cell_that_cannot_be_compiled_runs_by_its_definition():
    def cell(p, x, h):
        h = mg.tanh(x + mg.cumsum(h, 1))
        return h, h

    rng = np.random.default_rng(0)
    x, h = rng.standard_normal((3, 2, 4)), rng.standard_normal((2, 4))
    found = []
    for device in ("cpu", DEVICE):
        xs, state = mg.tensor(x, True, device=device), mg.tensor(h, True, device=device)
        ys, _ = mg.scan(cell, None, xs, state, lengths=[3, 1])
        ys.sum().backward()
        found.append([ys.numpy(), xs.grad.numpy(), state.grad.numpy()])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_errors_are_those_of_the_cpu():
    case, errors = Case("lstm", 2, 2, 3, 4), []
    for device in ("cpu", DEVICE):
        call = case.call(device)
        call.params.U = mg.tensor(np.zeros((16, 5)), device=device)
        with pytest.raises(mg.errors.ShapeError) as error:
            mg.scan(call.cell, call.params, call.xs, call.state)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_arrays_of_numpy_go_where_the_parameters_are():
    case = Case("lstm", 2, 2, 3, 4)
    call = case.call(DEVICE)
    ys, (h, c) = mg.scan(call.cell, call.params, *case.inputs[1:])
    assert {ys.device, h.device, c.device} == {DEVICE}
    np.testing.assert_array_equal(ys.numpy(), case.results(DEVICE)[0])


def test_tensors_of_two_devices_are_a_named_error():
    case = Case("lstm", 2, 2, 3, 4)
    here, there = case.call("cpu"), case.call(DEVICE)
    with pytest.raises(mg.errors.DeviceError):
        mg.scan(here.cell, here.params, there.xs, there.state)


def test_explain_shows_the_kernels_of_a_device():
    call = Case("lstm", 2, 2, 3, 4).call(DEVICE)
    text = mg.explain(mg.scan, call.cell, call.params, call.xs, call.state)
    assert "forward, each step: z6 += before0 @ p" in text
    assert f"for {DEVICE}\n# forward_rows" in text and "cuda.grid(1)" in text


def test_a_loop_that_comes_again_on_the_same_memory_is_recorded_once_and_run_again(monkeypatch):
    case, found, launched = Case("gru_after", 3, 2, 3, 4, lengths=[3, 1]), [], []
    arrays = kernel_of(case.call(DEVICE)).arrays
    monkeypatch.setattr(arrays, "graphs", Graphs(arrays.device))
    run = arrays.graphs.run

    def thrice(key, used, launch):
        """As if the arrays were those of three calls."""
        values = [x.memory.bytes.copy() for x in used]

        def noted():
            launched.append(key)
            launch()

        for _ in range(3):
            for x, value in zip(used, values):
                x.memory.bytes[:] = value
            run(key, used, noted)

    monkeypatch.setattr(arrays.graphs, "run", thrice)
    found = case.check()
    assert len(launched) == 4  # forward and backward, once as it is and once to be recorded
    assert len(arrays.graphs.known) == 2 and found


def test_what_repeats_itself_on_a_gpu_soon_runs_graphs(fake):  # noqa: F811
    case = Case("gru_simple", 2, 1, 2, 3, "float32")
    expected, launched = case.results(DEVICE), []
    for _ in range(4):
        found = case.results("cuda")
        launched.append(len(fake.named("graph.launch")))
    assert launched == [0, 2, 4, 6]  # the loops forward and backward
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, atol=1e-6)
