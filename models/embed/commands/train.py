"""Floor 7: ``minigrad embed train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from minigrad.models.embed.commands import embed
from minigrad.models.embed.config import EmbedConfig
from minigrad.models.embed.formats import check_out, format_for, write_vectors
from minigrad.models.embed.run import EmbedRun
from minigrad.models.place import reserved
from minigrad.models.text import read_text

DEFAULT_OUT = Path("runs/vectors.safetensors")


@embed.command()
@click.argument("text", metavar="FILE")
@EmbedConfig.options
@click.option("--out", type=click.Path(path_type=Path), metavar="VECTORS",
              help=f".safetensors; .txt, .vec or .bin is written beside it  [default: {DEFAULT_OUT}]")  # fmt: skip
@click.option("--resume", type=click.Path(path_type=Path), metavar="VECTORS", help="go on with a stopped training")
@click.pass_context
def train(ctx: click.Context, text: str, out: Path | None, resume: Path | None, **settings: Any) -> None:
    """Learn vectors of the words of FILE (- is the standard input), a text in UTF-8, however large.

    They are saved every 30 seconds; Ctrl-C saves and says how to go on. The loss of an epoch is the exact mean over all
    its pairs; held out, of a text that is not trained on and in which no frequent word is left out.
    """
    source = read_text("/dev/stdin" if text == "-" else text)
    explicit = {k: v for k, v in settings.items() if ctx.get_parameter_source(k) is ParameterSource.COMMANDLINE}
    config, other = None if resume else EmbedConfig.pick(settings), None
    if config:
        config.refuse_others(explicit)
    if out and out.suffix != ".safetensors":  # a file of another format, written at the end
        format_for(out)
        check_out(out, text)
        out, other = out.with_suffix(".safetensors"), out
    with reserved(out or resume, DEFAULT_OUT) as place:
        run = EmbedRun.new(source, config, place) if config else EmbedRun.resume(resume, source, explicit, out)
        code = run.run([text, *(["--out", str(other)] if other else [])])
    if code == 0 and other:
        write_vectors(other, run.vectors())
        click.echo(f"wrote {other}", err=True)
    if code == 0:
        word = next((w for w in run.words.words[100:] if len(w) > 4 and w.isalpha()), run.words.words[-1])
        click.echo(f"ask: minigrad embed nearest {run.out} {word}", err=True)
    ctx.exit(code)
