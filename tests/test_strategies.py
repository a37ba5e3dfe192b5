"""What the public strategies draw is what they promise, and prints as code that makes it."""

import gc
import linecache
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

import minigrad as mg
from minigrad.errors import UserError
from minigrad.testing import check_grad
from minigrad.testing import strategies as mst
from minigrad.testing.arrays import fill


def notes_of(test):
    with pytest.raises(AssertionError) as caught:
        test()
    return "\n".join(caught.value.__notes__)


def test_an_array_prints_as_the_call_that_makes_it():
    def falsified(y):
        assert y is None

    said = notes_of(given(y=mst.arrays((2, 3), layout="stepped"))(falsified))
    y = eval(re.search(r"y=(array\(.*\)),", said)[1], {"array": mst.array})
    assert y.shape == (2, 3) and y.strides[0] == -2 * y.itemsize


LAID_OUT = {
    "plain": lambda x: x.flags.c_contiguous,
    "transposed": lambda x: x.flags.f_contiguous and not x.flags.c_contiguous,
    "permuted": lambda x: x.strides[0] == x.itemsize and not x.flags.f_contiguous,
    "stepped": lambda x: x.base is not None and x.strides[0] == -2 * x.itemsize,
    "reversed": lambda x: all(s < 0 for s in x.strides),
    "broadcast": lambda x: x.strides[0] == 0,
    "read-only": lambda x: not x.flags.writeable,
}


@pytest.mark.parametrize("layout", LAID_OUT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts(layout, dtype):
    x = fill((2, 3, 2)).astype(dtype)
    y = mst.lay_out(x, layout)
    assert LAID_OUT[layout](y) and y.dtype == dtype and y.shape == x.shape
    np.testing.assert_array_equal(y, x[:1].repeat(2, 0) if layout == "broadcast" else x)
    assert sorted(LAID_OUT) == sorted(mst.LAYOUTS)


@given(data=st.data(), domain=st.sampled_from(["positive", "negative", "unit", (2.0, 2.5)]))
def test_a_domain_holds_every_value(data, domain):
    low, high = mst.DOMAINS.get(domain, domain) if isinstance(domain, str) else domain
    x = data.draw(mst.arrays(domain=domain))
    assert ((low - 1e-6 <= x) & (x <= high + 1e-6)).all()


@given(x=mst.arrays(dtype="float64", layout="plain", domain="apart"))
def test_apart_keeps_away_from_integers_and_from_ties(x):
    gap = 6 / max(x.size, 1)
    flat = np.sort(x.ravel())
    assert (np.diff(flat) > 0.5 * gap).all()
    assert (abs(x - np.rint(x)) > 0.09 * min(gap, 1)).all()


@given(xs=mst.broadcastable_arrays(3))
def test_groups_broadcast_and_share_a_dtype(xs):
    np.broadcast_shapes(*[x.shape for x in xs])
    assert len({x.dtype for x in xs}) == 1


def test_near_singular_matrices_and_extreme_sizes():
    for values in ("even", "equal", 3):
        assert np.linalg.cond(fill((3, 3), "near-singular", values)) > 1e3
        sizes = abs(fill((40,), "extreme", values))
        assert sizes.min() >= 1e-5 and sizes.max() <= 1e4
    assert np.ptp(np.log10(abs(fill((40,), "extreme")))) > 6


def test_narrow_domains_and_numbers():
    x = fill((4,), (1e-6, 2e-6))
    assert len(set(x)) == 4 and x.min() > 1e-6 and x.max() < 2e-6
    for domain in mst.DOMAINS:
        assert mst.array((), domain=domain).shape == ()


def test_apart_is_never_repeated_in_memory():
    with pytest.raises(NoSuchExample):
        find(mst.arrays((3,), domain="apart"), lambda x: x.strides == (0,))


def test_what_a_drawn_function_leaves_behind_goes_with_it():
    gc.collect()
    before = len(linecache.cache)
    for _ in range(50):
        mst.Function(((),), "def f(a):\n    return a")
    gc.collect()
    assert len(linecache.cache) <= before


def test_all_kinds_of_indices_and_lengths_are_drawn():
    for wanted in (lambda i: i[0] == i[1], lambda i: i.min() < 0, lambda i: i.max() == 3):
        find(mst.indices(4, (3,)), wanted)
    for wanted in (lambda n: (np.diff(n) < 0).any(), lambda n: n.min() == 0, lambda n: (n == 5).all()):
        find(mst.lengths(5, 3), wanted)
    with pytest.raises(NoSuchExample):
        find(mst.indices(4, (3,), negative=False), lambda i: i.min() < 0)


@given(x=mst.tensors())
def test_tensors_require_a_gradient(x):
    x.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(f=mst.functions(), seed=st.integers(0, 2**20))
def test_functions_are_finite_and_keep_the_dtype(dtype, f, seed):
    out = f(*f.tensors(seed, dtype))
    for y in out if isinstance(out, tuple) else (out,):
        assert y.dtype == dtype and np.isfinite(y.numpy()).all() and y.size <= 64


@given(f=mst.functions())
def test_a_function_printed_and_read_again_is_the_same(f):
    again = eval(repr(f), {"Function": mst.Function})
    assert again.code == f.code and again.shapes == f.shapes


@pytest.mark.parametrize("operation", ["@", "unstack", "embedding", "logsumexp", "stack", "cumsum", "exp(", " * "])
def test_functions_use_every_kind_of_operation(operation):
    many = settings(max_examples=2000, database=None)
    assert operation in find(mst.functions(), lambda f: operation in f.code, settings=many).code


def test_functions_with_kinks_and_own_operations():
    for text in ("mg.relu", "mg.abs"):
        find(mst.functions(smooth=False), lambda f: text in f.code)
    f = find(mst.functions(own={"mine": mg.tanh}), lambda f: "mine(" in f.code)
    assert np.isfinite(np.asarray(f(*f.tensors()))).all()
    again = eval(repr(f), {"Function": mst.Function, "mine": mg.tanh})
    assert again.code == f.code and again.scope == f.scope


def test_a_wrong_operation_inside_a_random_function_is_found_and_shown_as_code():
    op = mg.Operation("wrong", lambda k, x: np.asarray(np.sin(x)), (lambda g, y, x: g * mg.cos(x) * 1.01,))

    def falsified(f):
        check_grad(f, *f.arrays(), order=1)

    said = notes_of(
        settings(max_examples=300, database=None)(
            given(f=mst.functions(own={"wrong": lambda x: mg.apply(op, (x,))}))(falsified)
        )
    )
    assert "v0 = wrong(a)\n" in said and "return v0" in said


def test_a_cell_prints_as_code_that_makes_it():
    cell = find(mst.cells(), lambda c: "@ p[0].T" in c.code and c.code.count("\n") > 3)
    again = eval(repr(cell), {"Cell": mst.Cell})
    one, two = (mg.scan(c.function, *c.draw(2, 1))[0].numpy() for c in (cell, again))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("make", "said"), [
    (lambda: mst.array((2,), layout="diagonal"), "one of plain"),
    (lambda: fill((2,), "imaginary"), "one of real"),
    (lambda: fill((2,), values="odd"), "'even', 'equal' or a seed"),
    (lambda: mst.calls("no such operation"), "a registered operation"),
    (lambda: find(mst.arrays(domain=(1.0, 1.0)), lambda x: True), "which holds nothing"),
    (lambda: fill((2,), (0.0, np.inf)), "finite ends"),
    (lambda: fill((2,), 5), r"got 5, expected one of .*, or \(low, high\)"),
    (lambda: fill((2,), (1.0, 2.0, 3.0)), r"\(low, high\)"),
    (lambda: mst.indices(0), "an axis of 0 elements"),
    (lambda: find(mst.functions(inputs=[(0, 3)]), lambda f: True), "at least one element"),
    (lambda: find(mst.functions(inputs=[()] * 9), lambda f: True), "1 to 8 inputs"),
])  # fmt: skip
def test_misuse_gets_a_clear_error(make, said):
    with pytest.raises(UserError, match=said):
        make()


WITHOUT = """
import sys
sys.modules["hypothesis"] = None
import minigrad
from minigrad.testing import check_grad
check_grad(minigrad.tanh, [0.3])
for name in ("strategies", "op_test", "suites"):
    try:
        getattr(minigrad.testing, name)
    except ImportError as error:
        print(error)
try:
    from minigrad.testing import strategies
except ImportError as error:
    print(error)
"""


def test_without_hypothesis_the_package_works_and_strategies_name_the_extra():
    found = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert len(lines) == 4 and all("pip install 'minigrad[test]'" in line for line in lines)
