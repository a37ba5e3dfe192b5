"""Floor 7: ``minigrad seq2seq translate``, ``score`` and ``eval``: what a trained model is for."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from minigrad import viz
from minigrad.errors import UserError, describe
from minigrad.models.devices import device_option
from minigrad.models.progress import Bar, perplexity, print_json
from minigrad.models.seq2seq.beam import Decoding
from minigrad.models.seq2seq.commands import files_of, model_argument, pair_options, reading_options, seq2seq
from minigrad.models.seq2seq.decode import Translation, translate
from minigrad.models.seq2seq.metrics import bleu, chrf, exact
from minigrad.models.seq2seq.model import Seq2Seq
from minigrad.models.seq2seq.pairs import PairConfig, Split
from minigrad.models.seq2seq.run import Parts, Reading, Seq2SeqRun, generated, of_files
from minigrad.models.seq2seq.score import Candidate, candidates, log_probabilities
from minigrad.models.text import read_text
from minigrad.models.vocabulary import Vocabulary

DRAWN = 200  # symbols of either side in a picture, at most

json_option = click.option("--json", "as_json", is_flag=True, help="one JSON object a line")


# ------------------------------------------------------------------------------------------------ translate


@seq2seq.command("translate")
@device_option
@model_argument
@click.argument("file")
@Decoding.options
@json_option
@click.option(
    "--plot-attention", "plot", type=click.Path(path_type=Path), metavar="FILE",
    callback=lambda ctx, parameter, value: value and viz.check_picture(value),
    help="draw, for the first line, what was attended to, as .png or .svg (needs matplotlib)",
)  # fmt: skip
def translate_command(model: Path, file: str, as_json: bool, plot: Path | None, **settings: Any) -> None:
    """An output line for each line of FILE, in order; - reads lines from the standard input as they come.

    With --n-best, for each line so many: its number, the score that ranks it and the text, with tabs between.

    \b
    echo "Je suis là ." | minigrad seq2seq translate MODEL - --beam 5
    """
    how, loaded = Decoding.pick(settings), Seq2Seq.load(model)
    if plot and loaded.config.attention == "none":
        raise UserError(describe("plot-attention", "a model without attention", "one with it"))
    unknown, number = Unknown(loaded.source), 0
    for lines in _arriving() if file == "-" else [_lines(file)]:
        for line, found in zip(lines, translate(loaded, unknown.noted(lines), how)):
            number += 1
            if plot and found[0].weights is not None:
                viz.save_picture(attention_figure(loaded, line, found[0]), plot)
                click.echo(f"drawn {plot}, of line {number}", err=True)
                plot = None
            if as_json:
                print_json({"source": line, "translations": [_record(one) for one in found]})
            elif how.n_best > 1:
                for one in found:
                    click.echo(f"{number}\t{one.score:.4f}\t{one.text}")
            else:
                click.echo(found[0].text)
        sys.stdout.flush()
    unknown.say()
    if plot:
        raise UserError(
            describe("plot-attention", "no line with a symbol on it", "one at least", f"no {plot} is drawn")
        )


def _record(one: Translation) -> dict[str, Any]:
    return {"text": one.text, "score": one.score, "log_probability": one.log_probability, "complete": one.complete}


def _lines(file: str) -> list[str]:
    lines = read_text(file).content.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _arriving() -> Iterator[list[str]]:
    """Whole lines of the standard input, as many as have come."""
    rest, number = b"", 0
    while data := sys.stdin.buffer.read1(1 << 16):
        *whole, rest = (rest + data).split(b"\n")
        yield [_decoded(line, number + k) for k, line in enumerate(whole, 1)]
        number += len(whole)
    if rest:
        yield [_decoded(rest, number + 1)]


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte 0x{line[error.start]:02x} in line {number:,}, which is not UTF-8"
        raise UserError(
            describe("standard input", got, "text in UTF-8", "convert it, for example with iconv")
        ) from None


class Unknown:
    """Counts what a vocabulary does not know."""

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary, self.counts, self.lines, self.symbols = vocabulary, Counter[str](), 0, 0

    def noted(self, lines: Iterable[str]) -> Iterator[str]:
        """The same lines, counted."""
        v = self.vocabulary
        for line in lines:
            self.lines += 1
            ids = v.encode(line, f"line {self.lines}")
            self.symbols += len(ids)
            if v.unknown is not None and (ids == v.unknown).any():
                self.counts.update(token for token, i in zip(v.split(line), ids) if i == v.unknown)
            yield line

    def say(self, where: str = "") -> None:
        if not self.counts:
            return
        some = ", ".join(_shown(token) for token, _ in self.counts.most_common(10))
        more = f" and {len(self.counts) - 10:,} more" if len(self.counts) > 10 else ""
        n, unit = self.counts.total(), self.vocabulary.unit
        click.echo(
            f"{n:,} of {self.symbols:,} {unit}s{where} unknown to the model, read as <UNK>: {some}{more}", err=True
        )


def _noted(model: Seq2Seq, sources: Iterable[str], targets: Iterable[str]) -> tuple[list[str], list[str]]:
    """The same lines, once it is said what is unknown in them."""
    found = []
    for vocabulary, lines, where in (model.source, sources, " of the sources"), (model.target, targets, " to score"):
        unknown = Unknown(vocabulary)
        found.append([*unknown.noted(lines)])
        unknown.say(where)
    return found[0], found[1]


def attention_figure(model: Seq2Seq, line: str, found: Translation) -> Any:
    """What each symbol of a translation attended to in its source."""
    source = [_shown(token) for token in model.source.split(line)]
    target = ["END" if i == model.target.end else _shown(model.target.token(int(i))) for i in found.ids]
    if max(len(source), len(target)) > DRAWN:
        got = f"{len(source):,} symbols and {len(target):,}"
        raise UserError(describe("plot-attention", got, f"{DRAWN} at most in a picture", "put a shorter line first"))
    assert found.weights is not None
    title = f"Attention of each {model.target.unit} written"
    return viz.alignment(found.weights[:, : len(source)], target, source, title, f"share, by {model.source.unit}")


def _shown(token: str) -> str:
    token = token.strip("\uffed")  # where there is no space, see joiners
    return {"\n": "↵", "\t": "→", " ": "␣"}.get(token, "".join(c if c.isprintable() else "�" for c in token))


# ------------------------------------------------------------------------------------------------ score


@seq2seq.command("score")
@device_option
@model_argument
@click.argument("pairs", nargs=-1)
@pair_options
@reading_options
@click.option("--source-line", metavar="TEXT", help="a sentence; its translations are then given in place of a file")
@json_option
def score_command(model: Path, pairs: tuple[str, ...], source: str | None, target: str | None, swap: bool,
                  skip_bad: bool, source_line: str | None, as_json: bool) -> None:  # fmt: skip
    """How likely the second text of each pair is, given the first: log p in nats, the end included.

    \b
    minigrad seq2seq score MODEL pairs.tsv
    minigrad seq2seq score MODEL --source-line "Jane visite l'Afrique en septembre." \\
        "Jane is visiting Africa in September." "In September, Jane will visit Africa."

    Translations of one sentence are ranked, the likeliest first.
    """
    if source_line is None:
        if len(pairs) > 1:
            raise click.UsageError("give one file of pairs, or --source-line TEXT and translations")
        if not (files := files_of(pairs[0] if pairs else None, source, target)):
            raise click.UsageError("give a file of pairs, or --source-line TEXT and translations")
        loaded, given = Seq2Seq.load(model), PairConfig(swap=swap, skip_bad=skip_bad).read(*files)
        sources, targets = _noted(loaded, given.sources, given.targets)
        found = log_probabilities(loaded, sources, targets)
        rows = [(x, Candidate(y, *one)) for x, y, one in zip(sources, targets, found)]
    else:
        if source or target or swap or skip_bad or not pairs:
            raise click.UsageError("give --source-line TEXT and its translations, and no files")
        loaded = Seq2Seq.load(model)
        _noted(loaded, [source_line], pairs)
        rows = [(source_line, one) for one in candidates(loaded, source_line, pairs)]
    if as_json:
        for x, one in rows:
            print_json({"source": x, "target": one.text, "log_probability": one.log_probability,
                        "symbols": one.symbols})  # fmt: skip
    else:
        unit, best = loaded.target.unit, rows[0][1].log_probability
        ranked = source_line is not None
        head = f"{'log p':>12}  {f'a {unit}':>11}  {'perplexity':>10}"
        click.echo(f"{head}  " + (f"{'times less likely':>17}  translation" if ranked else "source -> target"))
        for x, (text, total, n) in rows:
            less = f"{_times(best - total):>17}  " if ranked else f"{x} -> "
            click.echo(f"{total:12.3f}  {total / n:11.4f}  {perplexity(-total / n):10,.2f}  {less}{text}")
        if len(rows) > 1 and not ranked:
            total, n = (math.fsum(column) for column in zip(*((one.log_probability, one.symbols) for _, one in rows)))
            click.echo(f"{total:12.3f}  {total / n:11.4f}  {perplexity(-total / n):10,.2f}  all {len(rows):,} pairs")


def _name(facts: Any) -> str | None:
    """What a model was trained on, as its file says."""
    for key in ("corpus", "training", "name"):
        facts = facts.get(key) if isinstance(facts, dict) else None
    return facts


def _times(nats: float) -> str:
    return f"{math.exp(nats):,.1f}" if nats < 15 else f"e^{nats:.0f}"


# ------------------------------------------------------------------------------------------------ eval


@seq2seq.command("eval")
@device_option
@model_argument
@click.argument("pairs", required=False)
@pair_options
@reading_options
@click.option("--part", type=click.Choice(Split._fields), help="of the pairs, as the model's training parted them  "
              "[default: all; of generated dates the test]")  # fmt: skip
@Decoding.options
@click.option("--json", "as_json", is_flag=True, help="as one JSON object")
def evaluate(model: Path, pairs: str | None, source: str | None, target: str | None, swap: bool,
             skip_bad: bool, part: str | None, as_json: bool, **settings: Any) -> None:  # fmt: skip
    """How well a model predicts, and how well it writes, the second text of each pair, given the first.

    Nats a symbol and perplexity; BLEU, chrF and exact matches of what it writes, as sacrebleu computes them.
    """
    how, files = Decoding.pick(settings), files_of(pairs, source, target)
    if how.n_best > 1:
        raise UserError(describe("eval", f"--n-best {how.n_best}", "1", "use seq2seq translate"))
    loaded, training = Seq2Seq.load_for_training(model)
    facts = training[1] if training else {}
    if not files:
        if (known := _name(facts)) != "dates":
            raise UserError(describe("eval", f"no pairs, and a model of {known!r}", "PAIRS, or a model of dates"))
        chosen = generated(part or "test")
    elif part:
        if not training:
            raise UserError(describe("part", "a model without the state of its training", "what seq2seq train wrote"))
        parts = of_files(*files)(Reading.from_json(f"checkpoint {model}", facts.get("spelling")))
        Seq2SeqRun.check_same(facts.get("corpus"), Parts(*parts), "part")
        chosen = getattr(parts, part)
    else:
        chosen = PairConfig(swap=swap, skip_bad=skip_bad).read(*files)
    if not len(chosen):
        raise UserError(describe("part", f"no pairs for {part}", "some", "see --test-share of seq2seq train"))
    sources, targets = _noted(loaded, chosen.sources, chosen.targets)
    outputs = []
    with closing(Bar("translating")) as bar:
        for found in translate(loaded, sources, how):
            outputs.append(found[0].text)
            bar.show(len(outputs) / len(chosen), f"{len(outputs):,} lines")
    scored = log_probabilities(loaded, sources, targets)
    n = sum(one.symbols for one in scored)
    nats = -math.fsum(one.log_probability for one in scored) / n
    scores = [metric(outputs, targets) for metric in (bleu, chrf, exact)]
    if as_json:
        print_json({"pairs": len(chosen), "symbols": n, "nats": nats, "perplexity": perplexity(nats),
                    **{s.name.lower(): {"value": s.value, "signature": s.signature} for s in scores}})  # fmt: skip
    else:
        rows = {"pairs": f"{len(chosen):,}", f"{loaded.target.unit}s": f"{n:,}",
                f"nats a {loaded.target.unit}": f"{nats:.4f}", "perplexity": f"{perplexity(nats):,.4f}"}  # fmt: skip
        for name, value in rows.items():
            click.echo(f"{name:<18} {value:>12}")
        for s in scores:
            click.echo(s.text)
