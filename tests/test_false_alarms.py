"""No false alarm: random functions and every operation, all of them right, pass the numerical check.

A few by default; MINIGRAD_PROFILE=nightly takes 200 functions, 50 inputs for each, and 10,000 examples of each
operation.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from minigrad.ops import REGISTRY
from minigrad.testing import check_grad
from minigrad.testing.strategies import functions
from minigrad.testing.suites import op_test
from minigrad.testing.tally import Tally

NIGHTLY = settings.get_current_profile_name() == "nightly"
FUNCTIONS, INPUTS = (200, 50) if NIGHTLY else (20, 2)
DIFFERENTIABLE = sorted(name for name, record in REGISTRY.items() if record.gradient)


@settings(max_examples=FUNCTIONS, deadline=None, suppress_health_check=list(HealthCheck))
@given(f=functions())
def test_random_functions(f):
    rng = np.random.default_rng(len(f.code))
    for seed in rng.integers(0, 2**32, INPUTS):
        Tally.examples += 1
        Tally.checks += 1
        check_grad(f, *f.arrays(int(seed)), order=2, seed=int(seed))


@pytest.mark.skipif(not NIGHTLY, reason="test_properties has the default number of examples: MINIGRAD_PROFILE=nightly")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_operations(name):
    op_test(name, examples=10_000)()
