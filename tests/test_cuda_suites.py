"""The suites that every operation and every cell must pass, with the CUDA backend on the emulated device against NumPy
and against the CPU: values in both dtypes, gradients of every subset, layouts, second derivatives, two equal runs."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from on_device import on_device

from minigrad.ops import REGISTRY
from minigrad.testing.calls import calls
from minigrad.testing.clauses import Suite, behaves, registered_case, second_derivatives
from minigrad.testing.strategies import SEEDS, SMALL

pytestmark = pytest.mark.cuda_sim
FEW = settings(
    max_examples=max(3, settings().max_examples // 12),
    deadline=None,
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.generate),
)


def drawn(data, name):
    record = REGISTRY[name]
    case = registered_case(data.draw(calls(name, SMALL), label="call"), record, data.draw(SEEDS, label="seed"))
    f = on_device(record.function)
    return Suite(f, record.function, record.oracle, record.group == "Products", True), case


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_operations_behave_on_the_device_as_their_records_say(name):
    @FEW
    @given(data=st.data())
    def behave(data):
        suite, case = drawn(data, name)
        behaves(suite, case, data)

    @FEW
    @given(data=st.data())
    def twice(data):
        second_derivatives(*drawn(data, name), data)

    behave()
    if REGISTRY[name].gradient:
        twice()
