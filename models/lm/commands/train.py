"""Floor 7: ``minigrad lm train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from minigrad.errors import UserError, describe
from minigrad.models.devices import chosen, device_option
from minigrad.models.lm.commands import chosen_text, lm, text_option
from minigrad.models.lm.commands.use import print_sample
from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.lm.presets import PRESETS
from minigrad.models.lm.presets import preset as settings_of
from minigrad.models.lm.run import Corpus, LanguageRun, TextPace
from minigrad.models.place import reserved
from minigrad.models.recipe import BUDGETS, WindowRecipe
from minigrad.models.text import read_text
from minigrad.models.vocabulary import VocabularyConfig

DEFAULT_OUT = Path("runs/lm.safetensors")
DEFAULT_MINUTES = 2.0


def _preset(ctx: click.Context, _: click.Parameter, name: str | None) -> str | None:
    """Its settings become the defaults of the options."""
    if name is not None:
        ctx.default_map = settings_of(name)
    return name


def _begin_with(path: str, model: LanguageModel) -> None:
    """Vectors of words become the rows of a model's embedding; those of other words are drawn."""
    from minigrad.models.embed.formats import read_vectors

    if model.vocabulary.unit != "word":
        raise UserError(describe("vectors", "a model of characters", "one of words", "add --level word"))
    found, where = read_vectors(path), f"vectors {path}"
    if found.dim != model.config.embedding:
        expected = f"as many as --embedding, {model.config.embedding}"
        raise UserError(describe(where, f"{found.dim} numbers a word", expected, f"set --embedding {found.dim}"))
    layer, report = found.embedding(model.vocabulary, generator=model.generator)
    model.embedding.weight.data = model.embedding.weight.beside(layer.weight.numpy()).data
    click.echo(f"{where}: {report}", err=True)


@lm.command()
@device_option
@text_option
@click.option(
    "--preset",
    metavar="NAME",
    callback=_preset,
    is_eager=True,
    help=f"settings of a published model, as defaults: {', '.join(PRESETS)}",
)
@click.option("--validation", metavar="FILE", help="UTF-8 text to validate with, instead of the last tenth of --text")
@click.option("--vectors", metavar="FILE", help="vectors of words that the embedding begins with, of as many numbers")
@VocabularyConfig.options
@LanguageConfig.options
@WindowRecipe.options
@TextPace.options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help=f"the model's file; one that is there is kept beside  [default: {DEFAULT_OUT}]",
)
@click.option("--resume", type=click.Path(path_type=Path), metavar="MODEL", help="go on with a stopped training")
@click.option("--prompt", default="", help="beginning of the sample at the end")
@click.pass_context
def train(
    ctx: click.Context,
    text: str | None,
    preset: str | None,
    validation: str | None,
    vectors: str | None,
    out: Path | None,
    resume: Path | None,
    prompt: str,
    **settings: Any,
) -> None:
    """Train a model of the characters or words of a text; the last tenth is kept for validation.

    The budget is one of --minutes, --epochs and --steps; 2 minutes if none is given. Ctrl-C saves.
    """
    if out is not None and not out.name:
        raise UserError(describe("out", repr(str(out)), "the name of a file"))
    corpus = Corpus(chosen_text(text), None if validation is None else read_text(validation))
    pace = TextPace.pick(settings)
    explicit = {k: v for k, v in settings.items() if ctx.get_parameter_source(k) is ParameterSource.COMMANDLINE}
    if resume and (given := "a preset" if preset else vectors and f"--vectors {vectors}"):
        raise UserError(describe("resume", given, "none", "a resumed run keeps its settings"))
    if preset and explicit.get("level") == "char" != PRESETS[preset]["level"]:
        got = f"--level char with --preset {preset}, the settings of a model of words"
        raise UserError(describe("level", got, "one of the two", "leave one out, or take --preset char-rnn"))
    with reserved(out or resume, DEFAULT_OUT) as place:
        if resume:
            run = LanguageRun.resume(resume, corpus, explicit, out, pace)
        else:
            if budgets := {name: explicit[name] for name in BUDGETS if name in explicit}:  # in place of a preset's
                settings |= {**dict.fromkeys(BUDGETS), **budgets}
            elif all(settings[name] is None for name in BUDGETS):
                settings["minutes"] = DEFAULT_MINUTES
            config, recipe = LanguageConfig.pick(settings), WindowRecipe.pick(settings)
            spelling = VocabularyConfig.pick(settings)
            run = LanguageRun.new(corpus, config, recipe, place, pace, spelling)
            if vectors:
                _begin_with(vectors, run.model)
        run.model.vocabulary.encode(prompt, "prompt")
        files = {"--text": text, "--validation": validation}
        words = [word for name, path in files.items() if path is not None for word in (name, path)]
        code = run.run(words + chosen(ctx))
    if code == 0:
        click.echo()
        print_sample(run.model, 500, 0.8, prompt, run.trainer.recipe.seed)
        more = ["minigrad", "lm", "sample", str(run.out), "--length", "1000", "--temperature", "0.8"]
        click.echo(f"\nmore: {shlex.join(more)}", err=True)
    ctx.exit(code)
