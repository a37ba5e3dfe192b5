"""No false alarm: random functions and every operation, all of them right, pass the numerical check.

A few by default; MINIGRAD_PROFILE=nightly takes 200 functions, and 10,000 examples of each of them and of each
operation: an hour or two on two cores.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings

from minigrad.ops import REGISTRY
from minigrad.testing import check_grad
from minigrad.testing.strategies import functions
from minigrad.testing.suites import op_test

NIGHTLY = settings.get_current_profile_name() == "nightly"
FUNCTIONS, INPUTS = (10, 10_000) if NIGHTLY else (1, 2)
DIFFERENTIABLE = sorted(name for name, record in REGISTRY.items() if record.gradient)


@pytest.mark.parametrize("block", range(20))
def test_random_functions(block):
    @seed(block)
    @settings(max_examples=FUNCTIONS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(f=functions())
    def right(f):
        for n in np.random.default_rng(block).integers(0, 2**32, INPUTS):
            check_grad(f, *f.arrays(int(n)), seed=int(n))

    right()


@pytest.mark.skipif(not NIGHTLY, reason="test_properties has the default number of examples: MINIGRAD_PROFILE=nightly")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_operations(name):
    op_test(name, examples=10_000)()
