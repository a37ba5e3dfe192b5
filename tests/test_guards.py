"""The guards in conftest.py fire."""

from pathlib import Path

pytest_plugins = ["pytester"]

LEAKS = """
import pytest
from minigrad.engine import tape
from minigrad.ops.fuse import Fused

def test_that_leaves_recording_off():
    tape._MODE.set(tape.Mode(recording=False))

def test_that_leaves_anomaly_mode_on():
    tape._MODE.set(tape.Mode(anomaly=True))

def test_that_leaves_rules_unfused():
    Fused.on = False

def test_that_leaves_nothing():
    assert tape._MODE.get() == tape.Mode() and Fused.on

@pytest.mark.slow
def test_that_is_slow():
    pass
"""


def test_a_test_that_leaks_a_mode_is_an_error_and_the_next_one_starts_clean(pytester):
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(LEAKS)
    pytester.makeini("[pytest]\nmarkers = slow: slow")
    pytester.runpytest_subprocess().assert_outcomes(passed=4, errors=3, skipped=1)
    pytester.runpytest_subprocess("--slow").assert_outcomes(passed=5, errors=3)
