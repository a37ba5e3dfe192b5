"""Floor 7: ``minigrad embed plot``: words in the plane, as a picture or a page to move about in."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from minigrad import viz
from minigrad.errors import UserError, describe
from minigrad.models.embed.commands import embed
from minigrad.models.embed.formats import read_vectors
from minigrad.models.embed.page import nearest, page
from minigrad.models.embed.project import pca, tsne, usual_perplexity
from minigrad.models.embed.vectors import WordVectors
from minigrad.models.progress import Bar
from minigrad.nn.checkpoint import write_atomically

PAGES = (".html", ".htm")
MOST = 300


@embed.command()
@click.argument("vectors", type=click.Path(path_type=Path))
@click.option("--words", metavar="FILE|a,b,c", help="which words: those of a text file, or these")
@click.option("--most", type=click.IntRange(2), metavar="N",
              help=f"the first N words, in most files the frequent  [default: {MOST}]")  # fmt: skip
@click.option("--method", type=click.Choice(["tsne", "pca"]), default="tsne", show_default=True,
              help="tsne keeps who is near to whom, pca the directions of most variance")  # fmt: skip
@click.option("--perplexity", type=float,
              help="about how many neighbours count in t-SNE  [default: 30, or a third of the others]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help=".png or .svg (needs matplotlib), or .html",
              callback=lambda ctx, parameter, value: viz.check_picture(value, PAGES))  # fmt: skip
def plot(vectors: Path, words: str | None, most: int | None, method: str, perplexity: float | None, seed: int,
         out: Path) -> None:  # fmt: skip
    """Draw words as points: those of similar vectors lie together.

    Vectors are scaled to length 1, so that distances go by the cosine. The page of an .html holds everything in one
    file: move and zoom, look for words, point at one to see its neighbours.

    \b
    minigrad embed plot vectors.safetensors --out words.html
    minigrad embed plot glove.6B.100d.txt --words man,woman,king,queen,apple,orange --method pca --out notes.png
    """
    if words is not None and most is not None:
        raise UserError(describe("plot", "--most beside --words", "one of the two"))
    if method == "pca" and perplexity is not None:
        raise UserError(describe("plot", "--perplexity beside --method pca", "one of the two"))
    found = read_vectors(vectors, None if words is not None else most or MOST)
    chosen = list(found.words) if words is None else _chosen(words, found, vectors)
    if len(chosen) < 2:
        raise UserError(describe("plot", f"{len(chosen)} word{'s' * (not chosen)}", "two at least"))
    x = np.asarray(found[chosen], np.float64)  # (N, D)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    points, how, axes = _placed(x, method, perplexity, seed)
    count = f"{len(chosen):,} words of {vectors.name}"
    if out.suffix.lower() in PAGES:
        write_atomically(out, page(f"{count} by {how}", chosen, points, nearest(x)).encode())
    else:
        _picture(points, chosen, f"{count} by {how}", axes, out)
    click.echo(f"drew {count} by {how}: {out}")


def _chosen(words: str, found: WordVectors, path: Path) -> list[str]:
    """The words asked for, each once; all of them have a vector."""
    file, where = Path(words), "plot --words"
    if "\0" not in words and len(words) < 256 and file.is_file():
        try:
            asked = file.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(describe(f"{where} {words}", str(error), "a text in UTF-8")) from None
        where = f"{where} {words}"
    else:
        asked = [word.strip() for word in words.split(",")]
    asked = list(dict.fromkeys(word for word in asked if word))
    unknown = [word for word in asked if not _has(found, word)]
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        near = found.near(unknown[0]) if len(unknown[0]) < 100 else []
        do = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UserError(describe(where, shown, f"words of the {len(found):,} in {path}, or a file of words", do))
    return asked


def _has(found: WordVectors, word: str) -> bool:
    if word in found:
        return True
    try:
        return found.subwords is not None and bool(np.isfinite(found[word]).all())
    except UserError:
        return False


def _placed(x: np.ndarray, method: str, perplexity: float | None, seed: int) -> tuple[np.ndarray, str, tuple[str, str]]:
    """Points (N, 2), how they were made, and the names of the axes."""
    if method == "pca":
        points, shares = pca(x)
        names = [f"{name} direction: {share:.1%} of the variance" for name, share in zip(("first", "second"), shares)]
        return points, f"PCA ({shares.sum():.0%} of the variance)", (names[0], names[1])
    perplexity = usual_perplexity(len(x)) if perplexity is None else perplexity
    bar = Bar("placing words")
    try:
        points, divergence = tsne(x, perplexity=perplexity, generator=seed, show=bar.show)
    finally:
        bar.close()
    return points, f"t-SNE (perplexity {perplexity:.3g}, KL {divergence:.3f} nats)", ("", "")


def _picture(points: np.ndarray, words: list[str], title: str, axes: tuple[str, str], out: Path) -> None:
    """Larger for more words, and of about the shape of the points."""
    wide, high = np.ptp(points, axis=0)
    shape = float(np.clip(wide / high if high > 0 else 2.0, 0.7, 2.0))
    area = min(24.0, 5.5 + 0.4 * len(words) ** 0.5)
    figure, (ax,) = viz.grid(width=area * shape**0.5, height=area / shape**0.5, title=title)
    ax.set_xlabel(axes[0])
    ax.set_ylabel(axes[1])
    drawn = viz.names_beside(ax, points, words, size=max(8.0, 11.5 - 0.2 * len(words) ** 0.5))
    viz.save_picture(figure, out)
    _say("no room for the names of", drawn.left_out, "an .html shows them")
    _say("the font lacks letters of", drawn.no_letters, "an .html shows them")


def _say(what: str, words: list[str], do: str) -> None:
    if words:
        more = ", ..." if len(words) > 5 else ""
        click.echo(f"{what} {len(words):,} words: {', '.join(words[:5])}{more}; {do}", err=True)
