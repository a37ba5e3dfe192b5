"""Floor 7: ``minigrad lm train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from minigrad.models.lm.commands import chosen_text, lm, text_option
from minigrad.models.lm.commands.use import print_sample
from minigrad.models.lm.model import LanguageConfig
from minigrad.models.lm.run import LanguageRun, Pace, free_name
from minigrad.models.recipe import BUDGETS, Recipe

DEFAULT_OUT = Path("runs/lm.safetensors")
DEFAULT_MINUTES = 2.0


@lm.command()
@text_option
@LanguageConfig.options
@Recipe.options
@Pace.options
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="MODEL", help=f"the model's file  [default: {DEFAULT_OUT}]"
)
@click.option("--resume", type=click.Path(path_type=Path), metavar="MODEL", help="go on with a stopped training")
@click.option("--prompt", default="", help="beginning of the sample at the end")
@click.pass_context
def train(
    ctx: click.Context, text: str | None, out: Path | None, resume: Path | None, prompt: str, **settings: Any
) -> None:
    """Train a model of the characters of a text; the last tenth is kept for validation.

    The budget is one of --minutes, --epochs and --steps; 2 minutes if none is given. Ctrl-C saves.
    """
    content, pace = chosen_text(text), Pace.pick(settings)
    if resume:
        explicit = {k: v for k, v in settings.items() if ctx.get_parameter_source(k) is ParameterSource.COMMANDLINE}
        run = LanguageRun.resume(resume, content, explicit, out, pace)
    else:
        if all(settings[name] is None for name in BUDGETS):
            settings["minutes"] = DEFAULT_MINUTES
        config, recipe = LanguageConfig.pick(settings), Recipe.pick(settings)
        run = LanguageRun.new(content, config, recipe, out or free_name(DEFAULT_OUT), pace)
    run.model.vocabulary.encode(prompt, "prompt")
    code = run.run(["--text", text] if text else [])
    if code == 0:
        click.echo()
        print_sample(run.model, 500, 0.8, prompt, run.trainer.recipe.seed)
        more = ["minigrad", "lm", "sample", str(run.out), "--length", "1000", "--temperature", "0.8"]
        click.echo(f"\nmore: {shlex.join(more)}", err=True)
    ctx.exit(code)
