"""Floor 7: ``minigrad embed convert``: word vectors from one file format to another."""

from __future__ import annotations

from pathlib import Path

import click

from minigrad.errors import UserError, describe
from minigrad.models.embed.commands import embed
from minigrad.models.embed.formats import (
    FORMATS,
    check_out,
    format_for,
    open_source,
    read_source,
    write_vectors,
)

KEEPS_ALL = ("fasttext", "safetensors")


@embed.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--format", "format", type=click.Choice(FORMATS), help="of OUT  [default: by its ending]")
@click.option("--most", type=click.IntRange(1), metavar="N", help="only the first N words, in most files the frequent")
@click.option("--errors", type=click.Choice(["strict", "replace"]), default="strict", show_default=True,
              help="replace: bytes that are no UTF-8 become U+FFFD, repeated and empty words are left out")  # fmt: skip
def convert(source: Path, out: Path, format: str | None, most: int | None, errors: str) -> None:
    """Write the word vectors of IN as OUT. What IN is, its content tells: word2vec text or binary, GloVe, fastText's
    .vec or .bin, or minigrad's safetensors, gzipped or not.

    \b
    The ending of OUT names its format: .txt and .vec are the text of word2vec, .bin its binary, .safetensors
    minigrad's own; .gz behind them packs. --format asks for another: glove (text without a first
    line), fasttext (.bin).

    \b
    minigrad embed convert glove.6B.100d.txt vectors.safetensors
    minigrad embed convert cc.de.300.bin small.bin --format fasttext --most 100000
    """
    name = format_for(out, format)
    if not out.parent.is_dir():
        raise UserError(describe(f"out {out}", f"no folder {out.parent}", "one to write in", "make it first"))
    check_out(out, source)
    opened = open_source(source, most, errors)
    vectors, found = read_source(opened)
    click.echo(
        f"{source}: {found}{' (gzip)' if opened.packed else ''}, {len(vectors):,} words, {vectors.dim} numbers each"
    )
    for note in opened.notes:
        click.echo(f"{source}: {note}", err=True)
    write_vectors(out, vectors, name)
    click.echo(f"{out}: {name}, {out.stat().st_size:,} bytes")
    lost = [what for what, there in (("counts", vectors.counts), ("subwords", vectors.subwords)) if there is not None]
    if lost and name not in KEEPS_ALL:
        click.echo(f"{out}: without {' and '.join(lost)}, which only {' and '.join(KEEPS_ALL)} keep", err=True)
