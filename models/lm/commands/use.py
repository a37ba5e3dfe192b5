"""Floor 7: ``minigrad lm sample``, ``score`` and ``eval``: what a trained model is for."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import click
import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models.lm.commands import chosen_text, lm, model_argument, text_option
from minigrad.models.lm.model import LanguageModel


@lm.command()
@model_argument
@click.option("--length", default=500, show_default=True, help="characters to write")
@click.option("--temperature", default=0.8, show_default=True, help="0: always the likeliest; 1: as the model says")
@click.option("--prompt", default="", help="what the text begins with")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
def sample(model: Path, length: int, temperature: float, prompt: str, seed: int) -> None:
    """Let a model write."""
    print_sample(LanguageModel.load(model), length, temperature, prompt, seed)


def print_sample(model: LanguageModel, length: int, temperature: float, prompt: str, seed: int) -> None:
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
    loaded, content = LanguageModel.load(model), chosen_text(text)
    ids = loaded.vocabulary.encode((content.parts()[1] if validation else content).content)
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
