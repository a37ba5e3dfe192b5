"""Floor 7: ``minigrad lm sample``, ``complete`` and ``score``: what a trained model is for."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from minigrad.errors import UserError, describe
from minigrad.models.devices import device_option
from minigrad.models.lm import decode
from minigrad.models.lm.commands import lm, model_argument
from minigrad.models.lm.model import LanguageModel
from minigrad.models.lm.score import judge, log_probabilities, read_pairs, token_table, unknown
from minigrad.models.progress import perplexity
from minigrad.models.text import read_text

WIDTH = 72  # of a sentence in a table, at most

seed_option = click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="repeats a result")
json_option = click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
end_option = click.option("--end", is_flag=True, help="score the line end (<EOS>) behind each sentence too")

# ------------------------------------------------------------------------------------------------ writing


@lm.command()
@device_option
@model_argument
@decode.Sampling.options
@click.option("--prompt", metavar="TEXT", help="what the text begins with; without it, a new line")
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=1, show_default=True, help="texts to write, side by side"
)
@seed_option
def sample(model: Path, prompt: str | None, count: int, seed: int, **settings: Any) -> None:
    """Let a model write.

    \b
    minigrad lm sample MODEL --prompt "once upon a time" --length 200
    minigrad lm sample MODEL --top-p 0.9 --stop --count 5     five lines
    """
    loaded, how = LanguageModel.load(model), decode.Sampling.pick(settings)
    if prompt is not None:
        _check_prompt(loaded, prompt)
    prompt = prompt or ""
    if count == 1:
        _print_pieces(loaded, prompt, decode.sample(loaded, how, prompt, seed))
        return
    for text in decode.samples(loaded, count, how, prompt, seed):
        click.echo(_shown_prompt(loaded, prompt) + text)


def print_sample(model: LanguageModel, length: int, temperature: float, prompt: str, seed: int) -> None:
    """The prompt, and behind it a text as it is written."""
    how = decode.Sampling(length=length, temperature=temperature)
    _print_pieces(model, prompt, decode.sample(model, how, prompt, seed))


def _print_pieces(model: LanguageModel, prompt: str, pieces: Iterator[str]) -> None:
    click.echo(_shown_prompt(model, prompt), nl=False)
    for piece in pieces:
        sys.stdout.write(piece)
        if "\n" in piece or sys.stdout.isatty():
            sys.stdout.flush()
    click.echo()


def _shown_prompt(model: LanguageModel, prompt: str) -> str:
    """For words without the spaces behind it: the next word brings its own."""
    return prompt.rstrip(" ") if model.vocabulary.unit == "word" else prompt


def _check_prompt(model: LanguageModel, prompt: str) -> None:
    if not prompt.strip() or not len(model.vocabulary.encode(prompt, "prompt")):
        raise UserError(describe("prompt", "an empty text", "the beginning of one"))
    warn_of_unknown(unknown(model.vocabulary, prompt))


@lm.command()
@device_option
@model_argument
@click.argument("prompt")
@click.option("--length", type=click.IntRange(1), default=10, show_default=True, help="symbols to add")
@click.option("--beam", type=int, default=10, show_default=True, help="beginnings kept at every symbol; 1: greedy")
@click.option("--best", type=click.IntRange(1), default=5, show_default=True, help="continuations to show")
@click.option("--stop", is_flag=True, help="a continuation may end with its line (<EOS>), before --length")
@click.option("--unknown", "with_unknown", is_flag=True, help="<UNK> may be written too")
@json_option
def complete(model: Path, prompt: str, length: int, beam: int, best: int, stop: bool, with_unknown: bool,
             as_json: bool) -> None:  # fmt: skip
    """The likeliest continuations of PROMPT, by beam search.

    Not what the model would draw (see lm sample): of all texts of this length, those to which it gives the highest
    probability, as far as a beam of this width finds them.
    """
    loaded = LanguageModel.load(model)
    _check_prompt(loaded, prompt)
    found = decode.complete(loaded, prompt, length, beam, unknown=with_unknown, stop=stop)[:best]
    if as_json:
        for one in found:
            _json({"text": one.text, "log_probability": one.log_probability, "ids": one.ids.tolist()})
        return
    click.echo(f"{'log p':>10}  {'probability':>11}  continuation")
    for one in found:
        click.echo(f"{one.log_probability:10.3f}  {_probability(one.log_probability):>11}  {_short(one.text)}")


# ------------------------------------------------------------------------------------------------ scoring


@lm.command()
@device_option
@model_argument
@click.argument("sentences", nargs=-1)
@click.option("--file", metavar="FILE", help="sentences to score, one a line; - reads them from the standard input")
@click.option("--sort", is_flag=True, help="the likeliest first, and how much less likely the others are")
@click.option("--table", is_flag=True, help="every word (or character) with its probability and the best other one")
@click.option("--pairs", metavar="FILE", help="lines of kind, better, worse sentence, with tabs: which are preferred?")
@end_option
@json_option
def score(model: Path, sentences: tuple[str, ...], file: str | None, sort: bool, table: bool, pairs: str | None,
          end: bool, as_json: bool) -> None:  # fmt: skip
    """How likely each sentence is: log p in nats, the sum over its words or characters.

    \b
    minigrad lm score MODEL --sort "the apple and pair salad" "the apple and pear salad"
    minigrad lm score MODEL --file sentences.txt --json
    """
    if sum(map(bool, (sentences, file, pairs))) != 1:
        raise click.UsageError("give sentences, or --file FILE, or --pairs FILE")
    loaded = LanguageModel.load(model)
    if pairs:
        _print_judgements(loaded, pairs, end, as_json)
        return
    texts = list(_lines(file)) if file else list(sentences)
    for text in texts:
        if not text.strip() or not len(loaded.vocabulary.encode(text, "score")):
            raise UserError(describe("score", "an empty sentence", "some text in each"))
    found = [(text, math.fsum(logp), len(logp)) for text, logp in zip(texts, log_probabilities(loaded, texts, end=end))]
    if sort:
        found.sort(key=lambda one: -one[1])
    if as_json:
        for text, total, n in found:
            _json(_record(loaded, text, total, n) | ({"tokens": _tokens(loaded, text, end)} if table else {}))
        return
    _print_scores(loaded, found, sort)
    for text, _, _ in found if table else ():
        _print_table(loaded, text, end)
    warn_of_unknown([word for text in texts for word in unknown(loaded.vocabulary, text)])


def _record(model: LanguageModel, text: str, total: float, n: int) -> dict[str, Any]:
    return {"text": text, "log_probability": total, f"{model.vocabulary.unit}s": n, "bits": -total / math.log(2),
            "perplexity": perplexity(-total / n), "unknown": unknown(model.vocabulary, text)}  # fmt: skip


def _tokens(model: LanguageModel, text: str, end: bool) -> list[dict[str, Any]]:
    return [{**token._asdict(), "probability": math.exp(token.log_probability)}
            for token in token_table(model, text, end=end)]  # fmt: skip


def _print_scores(model: LanguageModel, found: Sequence[tuple[str, float, int]], compare: bool) -> None:
    unit = f"a {model.vocabulary.unit}"
    versus = "times less likely"
    click.echo(f"{'log p':>12}  {unit:>11}  {'perplexity':>10}  " + (f"{versus}  " if compare else "") + "sentence")
    for text, total, n in found:
        less = f"{_times(found[0][1] - total):>{len(versus)}}  " if compare else ""
        click.echo(f"{total:12.3f}  {total / n:11.4f}  {perplexity(-total / n):10,.2f}  {less}{_short(text)}")


def _print_table(model: LanguageModel, text: str, end: bool) -> None:
    unit = model.vocabulary.unit
    click.echo(f"\n{_short(text)}\n{'log p':>10}  {'probability':>11}  {'rank':>7}  {unit:<20}  best other")
    for token in token_table(model, text, end=end):
        name, other = (_visible(symbol) for symbol in (token.token, token.alternative))
        click.echo(f"{token.log_probability:10.3f}  {_probability(token.log_probability):>11}  {token.rank:7,}  "
                   f"{name:<20}  {other} {_probability(token.alternative_log_probability)}")  # fmt: skip


def _print_judgements(model: LanguageModel, path: str, end: bool, as_json: bool) -> None:
    """Accuracy by kind and overall, and the pairs in which the model prefers the worse sentence."""
    pairs = read_pairs(path)
    for text in (text for pair in pairs for text in pair[1:]):
        model.vocabulary.encode(text, f"pairs {path}: {_short(text)}")
    found = judge(model, pairs, end=end)
    kinds = list(dict.fromkeys(one.pair.kind for one in found))
    counts = {kind: [one.right for one in found if one.pair.kind == kind] for kind in kinds}
    right, wrong = sum(one.right for one in found), [one for one in found if not one.right]
    if as_json:
        shares = {kind: sum(of) / len(of) for kind, of in counts.items()}
        missed = [{**one.pair._asdict(), "log_probability": [one.better, one.worse]} for one in wrong]
        _json({"pairs": len(found), "accuracy": right / len(found), "kinds": shares, "wrong": missed})
        return
    for kind, of in [*counts.items(), ("all", [one.right for one in found])]:
        click.echo(f"{kind:<20} {sum(of):4} of {len(of):4}  {sum(of) / len(of):7.1%}")
    if wrong:
        click.echo(f"\n{'':<2}preferred, and how many times likelier than the better one")
    for one in wrong:
        click.echo(f"  {one.pair.worse}\n    {_times(one.worse - one.better)}  {one.pair.better}")
    words = [word for one in found for text in one.pair[1:] for word in unknown(model.vocabulary, text)]
    warn_of_unknown(words)


def _lines(file: str) -> Iterator[str]:
    """The lines of a file that are not empty."""
    if file == "-":
        try:
            content = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(describe("standard input", f"a byte that is not UTF-8 at {error.start}", "text")) from None
    else:
        content = read_text(file).content
    lines = [line for line in re.split("\r\n?|\n", content) if line.strip()]  # no other sign ends one, as in read_pairs
    if not lines:
        raise UserError(describe(f"text {file}", "no line with anything on it", "sentences, one a line"))
    yield from lines


# ------------------------------------------------------------------------------------------------ how it is printed


def warn_of_unknown(words: Iterable[str]) -> None:
    names = list(dict.fromkeys(words))
    if names:
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        click.echo(f"unknown to the model, read as <UNK>: {', '.join(names[:10])}{more}", err=True)


def _json(record: dict[str, Any]) -> None:
    click.echo(json.dumps(record, ensure_ascii=False))


def _short(text: str) -> str:
    text = _visible(text)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _visible(text: str) -> str:
    return text.replace("\n", "\\n") if text != " " else "' '"


def _probability(logp: float) -> str:
    p = math.exp(logp)
    return f"{p:.4f}" if p >= 0.001 else f"{p:.2e}"


def _times(nats: float) -> str:
    return f"{math.exp(nats):,.1f}" if nats < 15 else f"e^{nats:.0f}"
