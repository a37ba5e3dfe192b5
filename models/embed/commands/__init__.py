"""Floor 7: ``minigrad embed``: learn, convert, ask and draw vectors of words."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.pass_context
def embed(ctx: click.Context) -> None:
    """Word vectors: learn them from any text, ask for neighbours and analogies, draw and convert them."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


from minigrad.models.embed.commands import convert, plot, train, use  # noqa: E402, F401  # each adds its commands
