"""Floor 7: ``minigrad seq2seq train``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from minigrad.errors import UserError, describe
from minigrad.models.devices import chosen, device_option
from minigrad.models.place import reserved
from minigrad.models.recipe import BUDGETS, Recipe
from minigrad.models.seq2seq.beam import Decoding
from minigrad.models.seq2seq.commands import files_of, pair_options, seq2seq
from minigrad.models.seq2seq.config import Seq2SeqConfig
from minigrad.models.seq2seq.decode import translate
from minigrad.models.seq2seq.model import Seq2Seq
from minigrad.models.seq2seq.presets import PRESETS
from minigrad.models.seq2seq.presets import preset as settings_of
from minigrad.models.seq2seq.run import PairPace, Reading, Seq2SeqRun, of_dates, of_files

DEFAULT_OUT = Path("runs/seq2seq.safetensors")


def _preset(ctx: click.Context, _: click.Parameter, name: str | None) -> str | None:
    """Its settings become the defaults of the options; without files, those of the dates do."""
    files = [ctx.params.get(one) for one in ("pairs", "source", "target")]
    ctx.default_map = settings_of(name or ("attention" if any(files) else "dates"))
    return name


@seq2seq.command(context_settings={"default_map": settings_of(next(iter(PRESETS)))})  # what --help shows
@device_option
@click.argument("pairs", required=False, is_eager=True)
@pair_options
@click.option(
    "--preset", metavar="NAME", callback=_preset, is_eager=True,
    help=f"settings as defaults: {', '.join(PRESETS)}  [default: {next(iter(PRESETS))}; without files dates]",
)  # fmt: skip
@Reading.options
@Seq2SeqConfig.options
@Recipe.options
@PairPace.options
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="MODEL",
    help=f"the model's file; one that is there is kept beside  [default: {DEFAULT_OUT}]",
)  # fmt: skip
@click.option("--resume", type=click.Path(path_type=Path), metavar="MODEL", help="go on with a stopped training")
@click.pass_context
def train(ctx: click.Context, pairs: str | None, source: str | None, target: str | None, preset: str | None,
          out: Path | None, resume: Path | None, **settings: Any) -> None:  # fmt: skip
    """Train a model that writes the second column of PAIRS, a file with tabs, for the first.

    Some pairs are held out, chosen by a hash of the target. Without files the pairs are generated, dates in many
    formats and languages, and at the end the model reads yours. The budget is one of --minutes, --epochs and --steps;
    30 minutes if none is given, 6000 steps of the dates. Ctrl-C saves. Defaults below are those of the first preset;
    --preset NAME --help shows those of another.
    """
    if out is not None and not out.name:
        raise UserError(describe("out", repr(str(out)), "the name of a file"))
    files = files_of(pairs, source, target)
    explicit = {k: v for k, v in settings.items() if ctx.get_parameter_source(k) is ParameterSource.COMMANDLINE}
    if resume and preset:
        raise UserError(describe("resume", "a preset", "none", "a resumed run keeps its settings"))
    if not files and (given := [k for k in ("swap", "skip_bad", "longest", "unique", "limit", "test_share",
                                            "validation_share") if k in explicit]):  # fmt: skip
        name = given[0].replace("_", "-")
        raise UserError(describe("pairs", f"--{name} without files", "a file of pairs", "or leave it out"))
    given, pace = of_files(*files) if files else of_dates, PairPace.pick(settings)
    with reserved(out or resume, DEFAULT_OUT) as place:
        if resume:
            run = Seq2SeqRun.resume(resume, given, explicit, out, pace)
        else:
            if budgets := {name: explicit[name] for name in BUDGETS if name in explicit}:  # in place of a preset's
                settings |= {**dict.fromkeys(BUDGETS), **budgets}
            config, recipe, reading = Seq2SeqConfig.pick(settings), Recipe.pick(settings), Reading.pick(settings)
            run = Seq2SeqRun.new(given, config, recipe, place, pace, reading)
        words = files if len(files) < 2 else ["--source", files[0], "--target", files[1]]
        code = run.run([*words, *chosen(ctx)])
    if code == 0:
        more = ["minigrad", "seq2seq", "translate", str(run.out), "-"]
        click.echo(f"\nmore: {shlex.join(more)}", err=True)
        if not files:
            read_dates(run.model)
    ctx.exit(code)


def read_dates(model: Seq2Seq) -> None:
    """What somebody at a terminal writes, until an empty line."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    while True:
        try:
            line = input("a date: ")
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if not line.strip():
            return
        ((found, *_),) = translate(model, [line], Decoding())
        click.echo(f"        {found.text}")
