"""The pytest plugin: marker, profiles, line in the report; and nothing where minigrad is not used."""

import os
import subprocess
import sys

OWN = """
import minigrad as mg
import pytest
from minigrad.testing import op_test, pair_test
from minigrad.testing.strategies import arrays

test_tanh = op_test(lambda x: mg.tanh(x), examples=5)
test_pair = pair_test(mg.sin, lambda x: mg.cos(x - 1.5707963267948966), arrays(), examples=5)

def test_other():
    pass

@pytest.mark.gradcheck
def test_marked():
    pass
"""
OTHER = """
import sys

def test_nothing_was_imported():
    assert not {"minigrad", "numpy", "numba", "hypothesis.strategies"} & set(sys.modules)
"""


def pytest_of(folder, text, *arguments):
    (folder / "test_own.py").write_text(text)
    env = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--strict-markers", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_suites_are_marked_counted_and_reported(tmp_path):
    found = pytest_of(tmp_path, OWN, "-m", "gradcheck", "-W", "error")
    assert "3 passed, 1 deselected" in found.stdout, found.stdout + found.stderr
    assert "minigrad: 5 gradient checks, 20 examples, in 2 tests" in found.stdout


def test_counts_travel_from_the_workers_of_xdist(tmp_path):
    found = pytest_of(tmp_path, OWN, "-n", "1")
    assert "minigrad: 5 gradient checks, 20 examples, in 2 tests" in found.stdout, found.stdout + found.stderr


def test_where_minigrad_is_not_used_nothing_is_imported_or_said(tmp_path):
    found = pytest_of(tmp_path, OTHER)
    assert "1 passed" in found.stdout and "minigrad" not in found.stdout, found.stdout + found.stderr


def test_the_profile_has_no_deadline(tmp_path):
    text = "from hypothesis import settings\ndef test_it():\n    assert settings.default.deadline is None\n"
    assert "1 passed" in pytest_of(tmp_path, text, "--hypothesis-profile=minigrad").stdout
    assert "1 failed" in pytest_of(tmp_path, text, "--hypothesis-profile=default").stdout
    text = "from hypothesis import settings\ndef test_it():\n    assert settings.default.max_examples == 10_000\n"
    assert "1 passed" in pytest_of(tmp_path, text, "--hypothesis-profile=minigrad-nightly").stdout
