"""Floor 7: ``minigrad seq2seq``: train, use and measure a model that writes one text for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from minigrad.errors import UserError, describe

model_argument = click.argument("model", type=click.Path(path_type=Path))


def pair_options(function: Callable) -> Callable:
    """Where pairs stand, if not in one file with tabs."""
    for name, what in (("target", "the other one, a line for each of --source"), ("source", "a file of source lines")):
        function = click.option(f"--{name}", metavar="FILE", is_eager=True, help=what)(function)
    return function


def files_of(pairs: str | None, source: str | None, target: str | None) -> list[str]:
    """The file of pairs, or the two of lines, or none."""
    if pairs and not (source or target):
        return [pairs]
    if bool(source) != bool(target) or (pairs and source):
        got = "a file of pairs beside --source or --target" if pairs else f"--{'source' if source else 'target'} alone"
        raise UserError(describe("pairs", got, "one file of pairs, or --source FILE and --target FILE"))
    return [source, target] if source and target else []


def reading_options(function: Callable) -> Callable:
    """How pairs are read, where it is not a training that keeps it."""
    for name, what in (
        ("skip-bad", "leave out lines that are no pair, instead of stopping there"),
        ("swap", "from the second column, or file, to the first"),
    ):
        function = click.option(f"--{name}", is_flag=True, help=what)(function)
    return function


@click.group(invoke_without_command=True)
@click.pass_context
def seq2seq(ctx: click.Context) -> None:
    """Sequence to sequence: train on pairs of lines, translate, score, evaluate."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


from minigrad.models.seq2seq.commands import train, use  # noqa: E402, F401  # each adds its commands
