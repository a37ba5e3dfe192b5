"""The program that measures on a GPU, on the emulated one: it goes on behind what fails, and writes its page."""

import json
import sys

import pytest

pytest.importorskip("greenlet", reason="the emulated device needs greenlet: pip install 'minigrad[simt]'")


from tests.benchmarks import bench_cuda, cuda_all
from tests.benchmarks.bench_cuda import Bench
from tests.benchmarks.cuda_all import Part, Result, page, parts, run

pytestmark = pytest.mark.cuda_sim


@pytest.mark.parametrize("part", ["prepare", "memory", "launches", "products", "recurrent", "cells"])
def test_a_part_yields_what_it_measured(part):
    rows = list(bench_cuda.PARTS[part](Bench("cuda-sim", tiny=True)))
    assert rows and all(row["what"] for row in rows)
    assert part == "prepare" or all(row["minigrad"] > 0 for row in rows)
    assert len(page({part: Result(1.0, "", rows, "")}, {}).splitlines()) > len(rows)


def test_a_part_in_a_process_of_its_own_is_watched(tmp_path):
    assert run(Part("ok", ("-c", "print(7)"), 20), "cuda-sim", True, tmp_path, 20).tail == "7\n"
    assert run(Part("bad", ("-c", "raise SystemExit(3)"), 20), "cuda-sim", True, tmp_path, 20).failed == "exit 3"
    stuck = run(Part("stuck", ("-c", "while 1: pass"), 0.5), "cuda-sim", True, tmp_path, 20)
    assert stuck.failed.startswith("stopped after") and stuck.seconds < 10
    watched = Part("watched", ("-c", "1"), 5, tool=("no-such-sanitizer",))
    assert run(watched, "cuda", True, tmp_path, 20).failed == "no no-such-sanitizer here"


def test_all_parts_run_even_where_one_fails(tmp_path, monkeypatch, capsys):
    two = [Part("first", ("-c", "raise SystemExit(1)"), 20), Part("second", ("-c", "print('1 passed in 2 s')"), 20)]
    monkeypatch.setattr(cuda_all, "parts", lambda text, tiny: two)
    made = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["cuda_all", "--page", str(made)])
    with pytest.raises(SystemExit, match="1"):
        cuda_all.main()
    text = made.read_text()
    assert "**Failed: exit 1.**" in text and "## Second" in text
    assert list(json.loads(made.with_suffix(".json").read_text())["parts"]) == ["first", "second"]
    monkeypatch.setattr(sys, "argv", ["cuda_all", "--tiny", "--seconds", "1", "--page", str(tmp_path / "none.md")])
    with pytest.raises(SystemExit):
        cuda_all.main()
    assert "no time was left" in capsys.readouterr().out and not (tmp_path / "none.md").exists()


def test_the_emulated_gpu_runs_the_benchmarks_alone(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cuda_all, "run", lambda part, *_: asked.append(part.name) or Result(0.0, "", [], ""))
    monkeypatch.setattr(sys, "argv", ["cuda_all", "--device", "cuda-sim", "--tiny"])
    with pytest.raises(SystemExit, match="0"):
        cuda_all.main()
    assert asked[0] == "prepare" and asked[-1] == "cells"
    assert not {"tests", "training", "memcheck", "racecheck"} & set(asked) and "Failed" not in capsys.readouterr().out


def test_the_page_says_what_was_measured():
    rows = [
        {"what": "copy", "bytes": 8e9, "minigrad": 2e-3, "torch": 1.9e-3, "share": 0.95},
        {"what": "4096", "minigrad": 4e-3, "torch": 3e-3, "flops": 34e12, "peak": 0.51, "error": 3e-7},
        {"what": "LSTM", "minigrad": 5e-4, "torch": 1e-3, "step": 2e-5},
    ]
    text = page(
        {"memory": Result(1, "", rows, ""), "racecheck": Result(1, "", rows, "RACECHECK SUMMARY: 0 hazards")}, {}
    )
    assert "| copy | 2 ms | 1.9 ms | 0.95 | 4,000 GB/s, 95% of the copy |" in text
    assert "| 4096 | 4 ms | 3 ms | 0.75 | 34.0 TFLOP/s, 51% of peak, error 3e-07 |" in text
    assert "| LSTM | 500 us | 1 ms | 2.00 | 20 us a step |" in text
    assert "3 runs of operations and layers; RACECHECK SUMMARY: 0 hazards" in text


def test_the_limits_of_the_parts_fit_into_one_call():
    assert [p.name for p in parts("x", False)][-2:] == ["memcheck", "racecheck"]
    assert sum(p.limit for p in parts("x", False)) < 15 * 60  # most end long before; 530 s bound all of them
