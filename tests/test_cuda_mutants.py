"""Tests of the tests of CUDA kernels: no planted fault survives, and the kernels as they are pass."""

from pathlib import Path

import pytest

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")

import group_mutants
from cuda_mutants import CASES, MUTANTS, Mutant, caught

pytestmark = pytest.mark.cuda_sim


@pytest.mark.parametrize("kernel", CASES)
def test_kernels_as_they_are_pass(kernel):
    assert not caught(Mutant(kernel, "none", "@kernel\n", "@kernel\n\n"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.kernel}: {m.name}")
def test_no_mutant_survives(mutant):
    assert caught(mutant)


def test_the_table_of_the_docs_has_every_mutant():
    page = (Path(__file__).parents[1] / "docs" / "cuda_mutants.md").read_text()
    missing = [m for m in MUTANTS if f"| `{m.kernel}` | {m.name} |" not in page]
    missing += [m for m in group_mutants.MUTANTS if f"| a cell: `{m.cell}` | {m.what} |" not in page]
    assert not missing, "run: python tests/cuda_mutants.py > docs/cuda_mutants.md"
    assert "survived" not in page


def test_a_fault_that_is_none_would_be_noticed():
    with pytest.raises(AssertionError, match="is no longer in"):
        caught(Mutant("tile_32", "gone", "no such line", ""))
