"""Recurrences on a device as one kernel for all steps: who owns what, where blocks wait, and that results are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")

import cells
import group_mutants
import memory_cells
from test_cuda_scan import DEVICE, Case

from minigrad.compiler.cuda.group import AHEAD, GroupLoop, Shape, choose
from minigrad.compiler.cuda.ownership import BLOCK, GROUP, NONE
from minigrad.compiler.fused import kernel_of
from minigrad.testing import simt

pytestmark = pytest.mark.cuda_sim
few = settings(max_examples=max(4, settings.default.max_examples // 5))
ALL = cells.NAMES + memory_cells.NAMES


def loops(name, I=3, H=5):
    """The loops of a cell's two passes."""
    kernel = kernel_of(Case(name, 2, 2, I, H).call(DEVICE))
    return [kernel.forward.group, kernel.backward.group]


# -------------------------------------------------------------------------------------------- who owns what


def violation(loop, before, parts, members, steps=4):
    """Run a pass as sets: every number knows who wrote and read it last, and how many barriers ago. Gives what one
    part or thread takes that another may not have left yet, or None."""
    wrote, read, now = {}, {}, [0, 0]  # now: barriers of the group, and of either kind
    for step in range(steps):
        for i, (phase, barrier) in enumerate(zip(loop.phases, before)):
            now = [now[0] + (barrier == GROUP), now[1] + (barrier >= BLOCK)]
            at = (step, i)

            def settled(seen, part, now=now, at=at):
                """Whether all that was ``seen`` lies behind a barrier that the part was at, too."""
                for who, then, where in seen:
                    kind = int(who == part)
                    if then[kind] == now[kind] and (who, where) != (part, at):
                        return False
                return True

            for part in range(parts):
                for use in phase.uses:
                    for b in range(part, members, parts) if use.by_row else range(members):
                        for column in use.columns(part, parts):
                            key = (*use.row(step), b, column)
                            if not settled(wrote.get(key, ()), part):
                                return f"{use} of part {part}, in step {step}, of what was written"
                            if use.write and not settled(read.get(key, ()), part):
                                return f"{use} of part {part}, in step {step}, over what is read"
            for part in range(parts):
                for use in phase.uses:
                    for b in range(part, members, parts) if use.by_row else range(members):
                        for column in use.columns(part, parts):
                            key = (*use.row(step), b, column)
                            table = wrote if use.write else read
                            seen = {who: (who, then, where) for who, then, where in table.get(key, ())}
                            seen[part] = (part, tuple(now), at)
                            table[key] = tuple(seen.values())
    return None


@pytest.mark.parametrize("name", ALL)
def test_no_part_takes_what_another_may_not_have_left(name):
    for loop in loops(name):
        for parts in (1, 2, 3, 4):
            assert violation(loop, loop.before, parts, members=3) is None


@pytest.mark.parametrize("name", ["rnn_tanh", "gru_before", "gru_after", "lstm", "peephole_lstm"])
def test_no_barrier_can_be_weaker(name):
    for loop in loops(name):
        for i, level in enumerate(loop.before):
            for weaker in range(level):
                assert violation(loop, [*loop.before[:i], weaker, *loop.before[i + 1 :]], 3, 3), (i, weaker)


def test_barriers_of_a_group_in_a_step():
    """An LSTM exchanges h once a step, and its gradient once; a GRU that gates before the product exchanges twice."""
    expected = {"rnn_tanh": [1, 1], "lstm": [1, 1], "gru_after": [1, 1], "gru_before": [2, 2]}
    for name, counts in expected.items():
        assert [loop.before.count(GROUP) for loop in loops(name)] == counts
        assert all(NONE not in loop.before for loop in loops(name))


@pytest.mark.parametrize("name", ALL)
def test_parts_write_every_number_once(name):
    """What a pass writes is written by one part, and all of a product's columns by some part."""
    for loop in loops(name):
        for phase in loop.phases:
            for use in [u for u in phase.uses if u.write and not u.by_row]:
                for parts in (1, 2, 3, 7):
                    found = [c for part in range(parts) for c in use.columns(part, parts)]
                    assert sorted(found) == list(range(use.column, use.column + use.width))


# -------------------------------------------------------------------------------------------- sizes


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 4), st.integers(1, 3000)), min_size=1, max_size=3),
       st.integers(1, 300), st.sampled_from([4, 8]), st.integers(1, 140), st.sampled_from([48, 64, 227]))  # fmt: skip
def test_the_shape_of_a_launch(drawn, batch, itemsize, multiprocessors, limit):
    weights = [(k, tiles * tile, tile) for k, tiles, tile in drawn]
    shape = choose(weights, batch, itemsize, multiprocessors, limit * 1024, 256)
    total = sum(k * n for k, n, _ in weights)
    if shape is None:
        assert total * itemsize > multiprocessors * limit * 1024 or batch * total > 1 << 20
        return
    assert 1 <= shape.groups <= batch and shape.groups * shape.parts <= multiprocessors
    assert shape.members % 4 == 0 and shape.chunk % 4 == 0 and shape.shared(weights) * itemsize <= limit * 1024
    assert shape.chunk * shape.members * itemsize <= AHEAD * shape.threads
    fewer = shape._replace(parts=multiprocessors // (shape.groups + 1))
    if shape.kept and shape.groups < batch and fewer.parts:  # another group would not have room
        assert fewer.shared(weights) * itemsize > limit * 1024


@pytest.mark.parametrize(("batch", "hidden", "expected"), [(1, 64, (1, 1)), (64, 64, (1, 64)), (16, 512, (22, 6)),
                                                           (1, 1024, (79, 1)), (64, 1024, None)])  # fmt: skip
def test_the_shapes_of_lstms_on_132_multiprocessors(batch, hidden, expected):
    shape = choose([(hidden, 4 * hidden, hidden)], batch, 4, 132, 227 * 1024, 256)
    assert (shape and shape[:2]) == expected


# -------------------------------------------------------------------------------------------- results


@st.composite
def shapes(draw):
    parts, groups = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
    members, chunk = draw(st.sampled_from([4, 8])), draw(st.sampled_from([4, 8, 32]))
    return Shape(parts, groups, members, chunk, 64, draw(st.booleans()))


@st.composite
def cases(draw, name):
    T, B = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 3, 5, 9]))
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    return Case(name, T, B, draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2, 5, 7])),
                draw(st.sampled_from(["float32", "float64"])), draw(st.integers(0, 999)), draw(st.integers(1, 4)),
                lengths=lengths, reverse=draw(st.booleans()),
                checkpoint_every=draw(st.none() | st.integers(1, 3)))  # fmt: skip


@pytest.fixture
def shaped(monkeypatch):
    """Give every loop this shape."""
    return lambda shape: monkeypatch.setattr(GroupLoop, "shape", lambda *_: shape)


@pytest.mark.parametrize("name", ALL)
def test_one_kernel_for_all_steps_equals_the_definition(name, shaped):
    @few
    @given(cases(name), shapes(), st.integers(1, 15))
    def check(case, shape, used):
        shaped(shape)
        case.check(used=used)

    check()


@pytest.mark.parametrize("name", ["lstm", "gru_before", "layer_norm_lstm", "input_feeding"])
@pytest.mark.parametrize("parts", [1, 3])
def test_two_runs_agree_to_the_last_bit(name, parts, shaped):
    shaped(Shape(parts, 2, 4, 32, 64, True))
    case = Case(name, 3, 5, 2, 33 if name == "lstm" else 5, "float32", lengths=[2, 3, 0, 1, 3])
    for a, b in zip(case.check(), case.results(DEVICE)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "parts"), [("lstm", 1), ("lstm", 3), ("gru_before", 3), ("layer_norm_lstm", 3), ("input_feeding", 2)]
)
def test_barriers_order_all_accesses(name, parts, shaped, monkeypatch):
    """Threads in a random order, and every access of memory compared with those that no barrier separates it from."""
    device = simt.device()
    monkeypatch.setattr(device, "races", True)
    monkeypatch.setattr(device, "seed", parts)
    shaped(Shape(parts, 2, 4, 4, 64, True))
    Case(name, 2, 3, 2, 5, "float32", lengths=[2, 1, 2]).check()


def test_more_columns_than_threads(shaped):
    shaped(Shape(1, 1, 4, 32, 64, True))
    Case("lstm", 2, 2, 2, 70, "float64").check()


def test_the_device_chooses_a_shape():
    assert kernel_of(Case("lstm", 2, 2, 3, 4).call(DEVICE)).forward.group.weights == [(4, 16, 4)]
    Case("lstm", 3, 4, 3, 4).check()


def test_cells_that_differ_in_sizes_only_share_their_kernels():
    shape = Shape(2, 1, 4, 32, 64, True)
    for name in ("lstm", "gru_before", "layer_norm_lstm"):
        for a, b in zip(loops(name, 3, 4), loops(name, 5, 9)):
            assert a.kernel(shape) is b.kernel(shape)


# -------------------------------------------------------------------------------------------- mutants


@pytest.mark.parametrize("mutant", group_mutants.MUTANTS, ids=lambda m: m.what.replace(" ", "_"))
def test_a_planted_fault_is_found(mutant):
    with group_mutants.shaped(mutant):
        group_mutants.case(mutant).check()
    assert group_mutants.caught(mutant)
