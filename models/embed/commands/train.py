"""Floor 7: ``minigrad embed train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from minigrad.models.embed.commands import embed
from minigrad.models.embed.config import EmbedConfig
from minigrad.models.embed.formats import format_for, write_vectors
from minigrad.models.embed.run import EmbedRun
from minigrad.models.lm.run import free_name
from minigrad.models.text import read_text

DEFAULT_OUT = Path("runs/vectors.safetensors")


@embed.command()
@click.argument("text", metavar="FILE")
@EmbedConfig.options
@click.option("--out", type=click.Path(path_type=Path), metavar="VECTORS",
              help=f".safetensors, or .txt, .vec, .bin, then beside it  [default: {DEFAULT_OUT}]")  # fmt: skip
@click.option("--resume", type=click.Path(path_type=Path), metavar="VECTORS", help="go on with a stopped training")
@click.pass_context
def train(ctx: click.Context, text: str, out: Path | None, resume: Path | None, **settings: Any) -> None:
    """Learn vectors of the words of FILE, a text in UTF-8, however large. Ctrl-C saves."""
    source = read_text(text)
    explicit = {k: v for k, v in settings.items() if ctx.get_parameter_source(k) is ParameterSource.COMMANDLINE}
    other = None  # a file of another format, written at the end
    if out and out.suffix != ".safetensors":
        format_for(out)
        out, other = out.with_suffix(".safetensors"), out
    own = None if out or resume else free_name(DEFAULT_OUT)
    try:
        if resume:
            run = EmbedRun.resume(resume, source, explicit, out)
        else:
            config = EmbedConfig.pick(settings)
            config.refuse_others(explicit)
            run = EmbedRun(source, config, out or own or DEFAULT_OUT)
        code = run.run(text)
    finally:
        if own and own.exists() and not own.stat().st_size:  # nothing came of it
            own.unlink()
    if code == 0 and other:
        write_vectors(other, run.vectors())
        click.echo(f"wrote {other}", err=True)
    if code == 0:
        word = run.words.words[min(100, len(run.words.words) - 1)]
        click.echo(f"ask: minigrad embed nearest {run.out} {word}", err=True)
    ctx.exit(code)
