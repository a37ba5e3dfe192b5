"""Every planted fault of the catalogue is caught, most are named right, and nothing that is right is reported."""

from functools import cache

import numpy as np
import pytest
from fault_catalogue import FAULTS
from faults_later import LATER

import minigrad as mg
from minigrad.engine import Operation, apply
from minigrad.testing import GradientError, check_grad, check_vjp
from minigrad.testing.report import CAUSES

NAMED = 50  # at least so many causes


def check(fault, seed=0):
    made = fault.make()
    if fault.kind == "rule":
        forward, rules = made
        op = Operation("planted", lambda backend, *xs: np.asarray(forward(*xs)), rules(mg))
        check_grad(lambda *xs: apply(op, xs), *fault.inputs, order=2, seed=seed)
    else:
        check_vjp(*made, *fault.inputs, saved=fault.kind == "saved", seed=seed)


@cache
def error_of(name):
    fault = next(f for f in FAULTS if f.name == name)
    with pytest.raises(GradientError) as caught:
        check(fault)
    return caught.value


def test_the_catalogue_is_large_and_says_each_fault_once():
    assert len(FAULTS) >= 60 and len({f.name for f in FAULTS}) == len(FAULTS)
    assert {f.cause for f in FAULTS} <= set(CAUSES)


@pytest.mark.parametrize("name", [f.name for f in FAULTS])
def test_every_fault_is_caught(name):
    assert f"likely cause: {error_of(name).cause}: " in str(error_of(name))


def test_most_causes_are_named_right():
    right = [f.name for f in FAULTS if error_of(f.name).cause == f.cause]
    assert len(right) >= NAMED


@pytest.mark.parametrize("fault", LATER, ids=lambda f: f.name)
def test_faults_that_came_later_are_caught_too(fault):
    with pytest.raises(GradientError, match="likely cause"):
        check(fault)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_directions_find_and_name_them_too(seed):
    named = 0
    for fault in FAULTS:
        with pytest.raises(GradientError) as caught:
            check(fault, seed)
        named += caught.value.cause == fault.cause
    assert named >= NAMED
