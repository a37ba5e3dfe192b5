"""Floor 7: ``minigrad lm``: train, sample, score and evaluate a language model."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from minigrad.errors import UserError, describe
from minigrad.models.language_model import LanguageConfig, LanguageModel
from minigrad.models.language_run import LanguageRun, Pace, free_name
from minigrad.models.text import Text, default_text, read_text
from minigrad.models.training import BUDGETS, Recipe

DEFAULT_OUT = Path("runs/lm.safetensors")
DEFAULT_MINUTES = 2.0

text_option = click.option("--text", metavar="FILE", help="UTF-8 text; without it, the help texts that Python carries.")
model_argument = click.argument("model", type=click.Path(path_type=Path))


def _text(path: str | None) -> Text:
    return default_text() if path is None else read_text(path)


@click.group(invoke_without_command=True)
@click.pass_context
def lm(ctx: click.Context) -> None:
    """Language models: train on any text, sample, score, evaluate."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


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
    content, pace = _text(text), Pace.pick(settings)
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
        _print_sample(run.model, 500, 0.8, prompt, run.trainer.recipe.seed)
        more = ["minigrad", "lm", "sample", str(run.out), "--length", "1000", "--temperature", "0.8"]
        click.echo(f"\nmore: {shlex.join(more)}", err=True)
    ctx.exit(code)


@lm.command()
@model_argument
@click.option("--length", default=500, show_default=True, help="characters to write")
@click.option("--temperature", default=0.8, show_default=True, help="0: always the likeliest; 1: as the model says")
@click.option("--prompt", default="", help="what the text begins with")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
def sample(model: Path, length: int, temperature: float, prompt: str, seed: int) -> None:
    """Let a model write."""
    _print_sample(LanguageModel.load(model), length, temperature, prompt, seed)


def _print_sample(model: LanguageModel, length: int, temperature: float, prompt: str, seed: int) -> None:
    characters = model.sample(length, temperature, prompt, np.random.default_rng(seed))
    click.echo(prompt, nl=False)
    for character in characters:
        sys.stdout.write(character)
        if character == "\n" or sys.stdout.isatty():
            sys.stdout.flush()
    click.echo()


@lm.command("eval")
@model_argument
@text_option
@click.option("--validation", is_flag=True, help="only the last tenth, which lm train does not train on")
@click.option("--json", "as_json", is_flag=True, help="as one JSON object")
def evaluate(model: Path, text: str | None, validation: bool, as_json: bool) -> None:
    """How well a model predicts a text: nats and bits a character, perplexity. Read as one stream."""
    loaded, content = LanguageModel.load(model), _text(text)
    ids = loaded.vocabulary.encode(content.parts()[1] if validation else content.content)
    if len(ids) < 2:
        raise UserError(describe("text", f"{len(ids)} characters", "2 at least"))
    nats = loaded.evaluate(ids)
    found = {"characters": len(ids) - 1, "nats": nats, "bits": nats / math.log(2), "perplexity": math.exp(nats)}
    if as_json:
        click.echo(json.dumps(found))
    else:
        for name, value in found.items():
            click.echo(f"{name:<12}{value:>12,}" if isinstance(value, int) else f"{name:<12}{value:>12.4f}")


@lm.command()
@model_argument
@click.argument("sentences", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
def score(model: Path, sentences: tuple[str, ...], as_json: bool) -> None:
    """The log-probability of each sentence, in nats."""
    loaded = LanguageModel.load(model)
    for sentence, nats in [(s, loaded.score(s)) for s in sentences]:
        n = len(sentence)
        if as_json:
            record = {"text": sentence, "log_probability": nats, "characters": n}
            click.echo(json.dumps(record, ensure_ascii=False))
        else:
            click.echo(f"{nats:12.4f}  {nats / max(n, 1):9.4f} a character  {sentence}")
