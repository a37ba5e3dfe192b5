"""Everything that needs a GPU in one call of less than nine minutes, and the page docs/benchmarks/cuda.md made of it.

    pip install --no-deps --no-build-isolation -e . && python -m tests.benchmarks.cuda_all --text FILE

It needs numba-cuda, greenlet, pytest and hypothesis, and compares with torch where that is installed. Each part runs in
a process of its own with a limit of time; what fails is reported as that, and the rest goes on. ``--device cuda-sim
--tiny`` is a dry run on the emulated GPU, of which no page is made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.kernels.cuda import present

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "cuda.md"
Row = dict[str, Any]


class Part(NamedTuple):
    """A process: what it is called, its words behind python, its limit in seconds, and its environment."""

    name: str
    words: tuple[str, ...]
    limit: float
    environment: dict[str, str] = {}  # noqa: RUF012
    tool: tuple[str, ...] = ()  # in front of python

    @property
    def needs_gpu(self) -> bool:
        """Whether the emulated one does not do."""
        return bool(self.tool) or "tests.benchmarks.bench_cuda" not in self.words


class Result(NamedTuple):
    seconds: float
    failed: str  # why, or empty
    rows: list[Row]
    tail: str  # of its output


def bench(part: str, limit: float, **more: Any) -> Part:
    return Part(more.pop("name", part), ("-m", "tests.benchmarks.bench_cuda", part), limit, **more)


def parts(text: str | None, tiny: bool) -> list[Part]:
    """In the order of what is worth most, should time run out."""
    memcheck, racecheck = (
        ("compute-sanitizer", "--tool", t, "--error-exitcode", "9") for t in ("memcheck", "racecheck")
    )
    train = ("-c", "from minigrad.cli import main; main()", "lm", "train", "--minutes", "1.5", "--seed", "1")
    train += ("--device", "cuda", "--out", "OUT", *(("--text", text) if text else ()))
    return [
        bench("prepare", 60),
        bench("memory", 45),
        bench("products", 30, name="products in float32", environment={"MINIGRAD_MATMUL": "float32"}),
        bench("products", 30, name="products in tf32", environment={"MINIGRAD_MATMUL": "tf32"}),
        bench("products", 30, name="products in bf16", environment={"MINIGRAD_MATMUL": "bf16"}),
        bench("launches", 20),
        bench("recurrent", 75),
        bench("cells", 45),
        Part("tests", ("-m", "pytest", "-q", "-m", "gpu", "-n", "8", "--maxfail=25"), 120),
        Part("training", train, 130),
        bench("every", 100, name="memcheck", tool=memcheck),
        bench("every", 100, name="racecheck", tool=racecheck),
    ]


def run(part: Part, device: str, tiny: bool, folder: Path, limit: float) -> Result:
    """A part, for at most ``limit`` seconds. Its rows are those that it wrote, also before it failed."""
    out, log = folder / f"{part.name}.jsonl", folder / f"{part.name}.log"
    words = [sys.executable, *part.words]
    if "tests.benchmarks.bench_cuda" in words:
        words += ["--device", device, "--out", str(out), *(["--tiny"] if tiny else [])]
    words = [str(folder / "model.safetensors") if w == "OUT" else w for w in words]
    if part.tool:
        if shutil.which(part.tool[0]) is None:
            return Result(0.0, f"no {part.tool[0]} here", [], "")
        words = [*part.tool, *words]
    start, failed = time.perf_counter(), ""
    with log.open("w") as file:
        try:
            environment = {**os.environ, **part.environment, "PYTHONUNBUFFERED": "1"}
            done = subprocess.run(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment,
                                  timeout=min(limit, part.limit))  # fmt: skip
            failed = f"exit {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired as error:
            failed = f"stopped after {error.timeout:.0f} s"
        except OSError as error:
            failed = str(error)
    rows = [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")] if out.exists() else []
    tail = log.read_text(errors="replace")[-3000:]
    return Result(time.perf_counter() - start, failed, rows, tail)


# ------------------------------------------------------------------------------------------------ the page


def _time(seconds: float) -> str:
    unit, factor = ("s", 1) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    return f"{seconds * factor:.3g} {unit}"


def _figures(row: Row) -> str:
    """What of a row is not a time."""
    notes = []
    if "share" in row:
        notes.append(f"{row['bytes'] / row['minigrad'] / 1e9:,.0f} GB/s, {row['share']:.0%} of the copy")
    if "flops" in row:
        notes.append(f"{row['flops'] / 1e12:.1f} TFLOP/s" + (f", {row['peak']:.0%} of peak" if "peak" in row else ""))
        notes.append(f"error {row['error']:.0e}")
    if "step" in row:
        notes.append(f"{_time(row['step'])} a step")
    if "number" in row:
        notes.append(f"{row['number']}")
    return ", ".join(notes)


def table(rows: list[Row]) -> list[str]:
    lines = ["| | minigrad | torch | torch / minigrad | |", "| --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        own, other = row.get("minigrad"), row.get("torch")
        ratio = f"{other / own:.2f}" if own and other else ""
        shown = [_time(t) if t else "" for t in (own, other)]
        lines.append(f"| {row['what']} | {shown[0]} | {shown[1]} | {ratio} | {_figures(row)} |")
    return lines


def summary(part: str, result: Result) -> list[str]:
    """What the output of a part that has no rows says."""
    if part == "tests":
        found = re.findall(r"^.*\b(?:passed|failed|skipped).*$", result.tail, re.MULTILINE)
        return [found[-1].strip("= ")] if found else []
    if part == "training":
        return [line.strip() for line in result.tail.splitlines() if "validation" in line][-1:]
    if part in ("memcheck", "racecheck"):
        found = re.findall(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): .*", result.tail)
        return [f"{len(result.rows)} runs of operations and layers; {' '.join(found)}"]
    return []


def page(results: dict[str, Result], about: dict[str, str]) -> str:
    lines = ["# On a GPU", "", "; ".join(f"{k} {v}" for k, v in about.items()) + ".", ""]
    lines += [
        "Medians by device events, both sides in one process and in turns; of layers forward and backward, with all"
    ]
    lines += ["gradients. torch / minigrad above 1: minigrad is faster. Made by `python -m tests.benchmarks.cuda_all`."]
    for name, result in results.items():
        lines += ["", f"## {name[0].upper()}{name[1:]}", ""]
        if result.failed:
            lines += [f"**Failed: {result.failed}.** What was measured before:", ""]
        lines += summary(name, result)
        if result.rows and name not in ("memcheck", "racecheck"):
            lines += table(result.rows)
    return "\n".join(lines) + "\n"


def machine() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = present.card()
    about = {"GPU": found.name if isinstance(found, present.Card) else found.got, "date": time.strftime("%Y-%m-%d")}
    for package in ("minigrad", "numba-cuda", "cuda-core", "numpy", "torch"):
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            about[package] = "not there"
    return about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cuda-sim"])
    parser.add_argument("--tiny", action="store_true", help="small sizes: a dry run")
    parser.add_argument("--text", help="tinyshakespeare, to train on; without it the default text of lm train")
    parser.add_argument("--only", nargs="*", help="names of parts")
    parser.add_argument("--seconds", type=float, default=530, help="for all")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    end, results = time.perf_counter() + options.seconds, {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts(options.text, options.tiny):
            if (options.only and part.name not in options.only) or (options.device != "cuda" and part.needs_gpu):
                continue
            left = end - time.perf_counter()
            if left < 5:
                results[part.name] = Result(0.0, "no time was left", [], "")
                continue
            found = results[part.name] = run(part, options.device, options.tiny, Path(folder), left)
            print(f"== {part.name}: {found.failed or 'ok'}, {found.seconds:.1f} s, {len(found.rows)} rows", flush=True)
            print("\n".join(summary(part.name, found)) if not found.failed else found.tail[-1500:], flush=True)
    about = machine()
    text = page(results, about)
    if options.device == "cuda" and not options.tiny:
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(text)
        kept = {"machine": about, "parts": {k: r._asdict() for k, r in results.items()}}
        options.page.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
    print(text)
    sys.exit(int(any(r.failed for r in results.values())))


if __name__ == "__main__":
    main()
