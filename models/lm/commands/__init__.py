"""Floor 7: ``minigrad lm``: train, use and look into a language model."""

from __future__ import annotations

from pathlib import Path

import click

from minigrad.models.text import Text, default_text, read_text

text_option = click.option("--text", metavar="FILE", help="UTF-8 text; without it, the help texts that Python carries.")
model_argument = click.argument("model", type=click.Path(path_type=Path))


def chosen_text(path: str | None) -> Text:
    return default_text() if path is None else read_text(path)


@click.group(invoke_without_command=True)
@click.pass_context
def lm(ctx: click.Context) -> None:
    """Language models: train on any text, sample, score, evaluate."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


from minigrad.models.lm.commands import look, measure, train, use  # noqa: E402, F401  # each adds its commands
