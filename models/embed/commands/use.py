"""Floor 7: ``minigrad embed nearest``, ``analogy``, ``eval`` and ``debias``: what vectors of words are for."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from minigrad import viz
from minigrad.errors import UserError, describe
from minigrad.models.embed import debias as hard
from minigrad.models.embed import evaluate
from minigrad.models.embed.commands import embed
from minigrad.models.embed.formats import check_out, format_for, read_vectors, write_vectors
from minigrad.models.embed.vectors import METHODS, WordVectors
from minigrad.models.progress import print_json
from minigrad.models.text import read_text

SCORES = {"add": "cosine", "mul": "3CosMul", "euclidean": "distance"}
SHOWN = 20  # words of a table of debiasing

path_type = click.Path(path_type=Path)
vectors_argument = click.argument("vectors", type=path_type)
json_option = click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
method_option = click.option(
    "--method", type=click.Choice(METHODS), default="add", show_default=True,
    help="cosine with the sum (3CosAdd), product of cosines (3CosMul), or distance between the vectors as they are",
)  # fmt: skip


# ---------------------------------------------------------------- questions


def _asking(function: Callable) -> Callable:
    """The options of what asks for near words."""
    topn = click.option("--topn", type=click.IntRange(1), default=10, show_default=True, help="how many words")
    among = click.option("--among", type=click.IntRange(1), metavar="N", help="only the first N words are answers")
    return method_option(topn(among(json_option(function))))


@embed.command()
@vectors_argument
@click.argument("words", nargs=-1)
@_asking
def nearest(vectors: Path, words: tuple[str, ...], **how: Any) -> None:
    """The nearest words of each WORD; without any, of those that stand on the lines of the standard input.

    \b
    minigrad embed nearest vectors.bin king apple
    minigrad embed nearest vectors.bin --json < words.txt
    """
    found = read_vectors(vectors)
    _answer(found, words or None, lambda word: ([word], [], word), by_word=True, **how)


@embed.command()
@vectors_argument
@click.argument("terms", nargs=-1)
@_asking
def analogy(vectors: Path, terms: tuple[str, ...], **how: Any) -> None:
    """Man is to king as woman is to what? The words nearest to king - man + woman.

    TERMS are words with + and - between them, spaces around these. Without any, each line of the standard input is such
    a sum.

    \b
    minigrad embed analogy vectors.bin king - man + woman
    minigrad embed analogy vectors.bin "paris - france + italy" --method mul --topn 3
    """
    found = read_vectors(vectors)
    _answer(found, [" ".join(terms)] if terms else None, lambda line: (*parse_sum(line), line), by_word=False, **how)


def parse_sum(text: str) -> tuple[list[str], list[str]]:
    """The words that are added and those that are taken away.

    >>> parse_sum("king - man + woman")
    (['king', 'woman'], ['man'])
    """
    sides: dict[str, list[str]] = {"+": [], "-": []}
    parts = text.split()
    if parts and parts[0] not in sides:
        parts = ["+", *parts]
    signs, words = parts[::2], parts[1::2]
    if len(parts) == 2 and any(sign in parts[1][1:] for sign in sides):
        raise UserError(describe("analogy", repr(text), "spaces around + and -", "write king - man + woman"))
    if not words or len(signs) != len(words) or {*signs} - {*sides} or {*words} & {*sides}:
        do = "write a - b + c for 'b is to a as c is to what?'"
        raise UserError(describe("analogy", repr(text), "words with + or - between them, as king - man + woman", do))
    for sign, word in zip(signs, words):
        sides[sign].append(word)
    return sides["+"], sides["-"]


def _answer(vectors: WordVectors, asked: Sequence[str] | None, read: Callable, by_word: bool, topn: int, method: str,
            among: int | None, as_json: bool) -> None:  # fmt: skip
    """Print what is nearest to each line or word as ``read`` understands it: words, words taken away, and its name."""
    wrong = lines = 0

    def show(plus: list[str], minus: list[str], name: str) -> None:
        nonlocal lines
        found = vectors.most_similar(plus, minus, topn, method, among)
        if as_json:
            print_json({"query": name, "method": method, "nearest": found})
        else:
            rows = [(word, f"{score:.4f}") for word, score in found]
            click.echo(("\n" if lines else "") + viz.table((name, SCORES[method]), rows))
        lines += 1

    terminal, number = asked is None and sys.stdin.isatty(), 0
    for number, line in enumerate(_typed(terminal) if asked is None else asked, 1):
        for question in line.split() if by_word else [line]:
            try:
                show(*read(question))
            except UserError as error:  # the others are still answered
                if asked is not None and len(asked) == 1:
                    raise
                if as_json:
                    print_json({"query": question.strip(), "error": str(error)})
                place = "" if terminal else f"{'line' if asked is None else 'word'} {number:,}: "
                click.echo(f"{place}{error}", err=True)
                wrong += 1
    if wrong and not terminal:
        got = f"{wrong:,} of {number:,} without an answer"
        raise UserError(describe("questions", got, "words with vectors", "see above"))


def _typed(terminal: bool) -> Iterator[str]:
    """The lines of the standard input, one after the other."""
    while True:
        if terminal:
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.buffer.readline()
        if not line:
            return
        yield line.decode("utf-8", "replace").strip()


# ---------------------------------------------------------------- evaluation


@embed.command("eval")
@vectors_argument
@click.option("--analogies", metavar="FILE", help="': section' lines and four words a line, as questions-words.txt")
@click.option("--similarity", metavar="FILE", help="two words and how similar people find them, a line")
@click.option("--among", type=click.IntRange(1), default=evaluate.AMONG, show_default=True, metavar="N",
              help="only the first N words are looked at, as questions and answers")  # fmt: skip
@click.option("--case", is_flag=True, help="capital letters count: Paris is not paris")
@method_option
@json_option
def evaluation(vectors: Path, analogies: str | None, similarity: str | None, among: int, case: bool, method: str,
               as_json: bool) -> None:  # fmt: skip
    """How many analogies the vectors answer rightly, and how well their cosines agree with people.

    \b
    minigrad embed eval vectors.bin --analogies questions-words.txt
    minigrad embed eval vectors.bin --similarity wordsim353.tsv --json
    """
    if not analogies and not similarity:
        raise click.UsageError("give --analogies FILE, --similarity FILE, or both")
    questions = evaluate.read_analogies(analogies) if analogies else None
    pairs = evaluate.read_pairs(similarity) if similarity else None
    loaded, record, texts = read_vectors(vectors), {}, []
    if questions:
        sections = evaluate.analogies(loaded, questions, among, not case, method)
        totals = evaluate.totals(sections)
        record |= {name: [{**s._asdict(), "accuracy": s.accuracy} for s in of]
                   for name, of in (("analogies", sections), ("totals", totals))}  # fmt: skip
        rows = [(s.name, s.right, s.asked, "-" if math.isnan(s.accuracy) else f"{s.accuracy:.1%}", s.skipped)
                for s in [*sections, *totals]]  # fmt: skip
        texts.append(viz.table(("analogies", "right", "of", "accuracy", "skipped: unknown word"), rows))
    if pairs:
        found = evaluate.similarity(loaded, pairs, among, not case)
        record["similarity"] = found._asdict()
        values = ["-" if math.isnan(r) else f"{r:.4f}" for r in (found.spearman, found.pearson)]
        head = ("similarity", "Spearman", "Pearson", "pairs", "skipped: unknown word")
        texts.append(viz.table(head, [(Path(str(similarity)).name, *values, found.pairs, found.skipped)]))
    if as_json:
        print_json(record)
    else:
        click.echo("\n\n".join(texts))


# ---------------------------------------------------------------- debiasing


@embed.command()
@vectors_argument
@click.option(
    "--pairs", metavar="FILE|a:b,c:d", help="words that differ in the bias  [default: she:he and nine others]"
)
@click.option("--neutral", required=True, metavar="FILE", help="words that shall have no bias")
@click.option("--equalise", metavar="FILE", help="words that shall differ in nothing else, a set (a pair) a line")
@click.option("--out", required=True, type=path_type, metavar="VECTORS", help="where to; the ending names the format")
@json_option
def debias(vectors: Path, pairs: str | None, neutral: str, equalise: str | None, out: Path, as_json: bool) -> None:
    """Take a bias out of vectors, by hard debiasing.

    Neutral words lose their part in the direction of the bias, the first principal component of what the pairs differ
    in; the sets to equalise then differ in nothing else. All vectors get length 1. Bolukbasi et al. (2016).

    \b
    minigrad embed debias vectors.bin --neutral occupations.txt --equalise pairs.txt --out fair.bin
    minigrad embed debias vectors.bin --pairs she:he,woman:man --neutral occupations.txt --out fair.bin
    """
    format_for(out)
    inputs = [path for path in (str(vectors), pairs, neutral, equalise) if path]
    check_out(out, *inputs)
    given, words = _pairs(pairs), [word for line in _sets(neutral) for word in line]
    sets = _sets(equalise) if equalise else []
    loaded = read_vectors(vectors)
    given, sets = _known(loaded, given, "pairs"), _known(loaded, sets, "sets to equalise")
    words = [word for (word,) in _known(loaded, [(word,) for word in dict.fromkeys(words)], "neutral words")]
    if not given or not words:
        got = "no pair" if not given else "no neutral word"
        raise UserError(describe("debias", f"{got} whose words have vectors", "one at least"))
    directions = hard.bias_directions(loaded, given)
    fair = hard.debias(loaded, directions, words, sets)
    before, after = (hard.bias(v, words, directions) for v in (loaded, fair))
    write_vectors(out, fair)
    if as_json:
        rows = zip(words, before.tolist(), after.tolist())
        print_json({"pairs": given, "sets": sets, "bias": {word: [b, a] for word, b, a in rows}})
        return
    order = np.argsort(-np.abs(before), kind="stable")[:SHOWN]
    click.echo(f"cosine with the bias, which points to {given[0][0]} from {given[0][1]}")
    click.echo(viz.table(("word", "before", "after"), [(words[i], f"{before[i]:.4f}", _zero(after[i])) for i in order]))
    click.echo(
        f"mean size over {len(words):,} words: {np.abs(before).mean():.4f} before, {np.abs(after).mean():.4f} after"
    )
    click.echo(f"{out}: {len(fair):,} words")


def _zero(x: float) -> str:
    return f"{x:.4f}".replace("-0.0000", "0.0000")


def _pairs(given: str | None) -> list[tuple[str, ...]]:
    """Of a file or of the command line."""
    if given is None:
        return list(hard.GENDER)
    if os.path.exists(given) or ":" not in given:
        return _sets(given)
    pairs = [tuple(part.strip() for part in pair.split(":")) for pair in given.split(",")]
    if bad := next((pair for pair in pairs if len(pair) != 2 or not all(pair)), None):
        raise UserError(describe("pairs", repr(":".join(bad)), "a:b,c:d, or a file"))
    return pairs


def _sets(path: str) -> list[tuple[str, ...]]:
    """The words of each line of a file that has any."""
    found = [tuple(line.replace(":", " ").split()) for line in read_text(path).content.split("\n")]
    if not any(found):
        raise UserError(describe(f"words {path}", "no words", "one at least"))
    return [words for words in found if words]


def _known(vectors: WordVectors, sets: Iterable[tuple[str, ...]], what: str) -> list[tuple[str, ...]]:
    """Those whose words all have vectors; how many have not is said."""
    sets = list(sets)
    found = [words for words in sets if all(word in vectors for word in words)]
    if len(found) < len(sets):
        click.echo(f"{len(sets) - len(found):,} of {len(sets):,} {what} left out: no vector", err=True)
    return found
