"""Floor 7: ``minigrad lm eval``: how well a model predicts a text, alone, adapting, and beside n-grams."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from minigrad.errors import UserError, describe
from minigrad.models.devices import device_option
from minigrad.models.lm import adapt
from minigrad.models.lm.commands import chosen_text, lm, model_argument, text_option
from minigrad.models.lm.model import LanguageModel
from minigrad.models.lm.ngram import KneserNey, fit_weight, mixed
from minigrad.models.lm.score import stream
from minigrad.models.progress import Bar, perplexity
from minigrad.models.text import Text, encoded, read_text
from minigrad.models.vocabulary import whole_words


@lm.command("eval")
@device_option
@model_argument
@text_option
@click.option("--validation", is_flag=True, help="only the last tenth, which lm train does not train on")
@click.option("--ngram", metavar="FILE", help="compare and mix with n-grams counted in FILE, the text of the training")
@click.option("--order", type=int, default=5, show_default=True, help="length of those n-grams")
@click.option("--dynamic", type=float, metavar="RATE", help="dynamic evaluation: learn from what was read; try 0.1")
@click.option("--decay", default=0.0, show_default=True, help="of --dynamic: pull towards the trained weights, 0 to 1")
@click.option("--gradients", metavar="FILE", help="of --dynamic: scale steps by typical gradients in FILE; try 3e-4")
@click.option("--cache", type=int, metavar="N", help="neural cache: expect the last N symbols again; try 2000")
@click.option("--theta", default=0.3, show_default=True, help="of --cache: how sharply it looks for similar places")
@click.option("--cache-weight", default=0.1, show_default=True, help="of --cache: its share of the mixture, 0 to 1")
@click.option("--json", "as_json", is_flag=True, help="as one JSON object")
def evaluate(model: Path, text: str | None, validation: bool, ngram: str | None, order: int, as_json: bool,
             **settings: Any) -> None:  # fmt: skip
    """How well a model predicts a text: nats and bits a symbol, perplexity.

    The text is read as one stream; its first symbol is given. With --ngram, n-grams alone, the network alone, and both
    mixed, with the weight that is best for the first half of the text, are measured on the second half.
    """
    _refuse_alone({"dynamic": settings["dynamic"], "cache": settings["cache"], "ngram": ngram})
    loaded, whole = LanguageModel.load(model), chosen_text(text)
    content = whole.parts(loaded.vocabulary.unit)[1] if validation else whole
    ids = encoded(loaded.vocabulary, content)
    least = 3 if ngram else 2
    if len(ids) < least:
        raise UserError(describe("text", f"{len(ids)} {loaded.vocabulary.unit}s", f"{least} at least"))
    parts = _network(loaded, ids, **settings)
    if ngram is None:
        total = sum(float(part.sum()) for part in _watched(parts, len(ids)))
        found = figures(loaded, content, ids, total)
        click.echo(json.dumps(found)) if as_json else _print(loaded, found)
        return
    with closing(Bar("counting n-grams")):
        counted = encoded(loaded.vocabulary, read_text(ngram))
        grams = KneserNey(counted, len(loaded.vocabulary), order).nll(ids)
    network = np.concatenate(list(_watched(parts, len(ids))))
    found = figures(loaded, content, ids, float(network.sum()))
    compared = compare(network, grams)
    if as_json:
        click.echo(json.dumps({**found, "ngram": {"order": order, **compared}}))
    else:
        _print(loaded, found)
        _print_comparison(loaded, order, compared)


PARTNERS = {"order": "ngram", "decay": "dynamic", "gradients": "dynamic", "theta": "cache", "cache_weight": "cache"}


def _refuse_alone(given: dict[str, Any]) -> None:
    """An option that means nothing without another is a mistake."""
    ctx = click.get_current_context()
    for name, partner in PARTNERS.items():
        if given[partner] is None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            got = f"--{name.replace('_', '-')} without --{partner}"
            raise UserError(describe("eval", got, "both, or neither"))


def _network(model: LanguageModel, ids: np.ndarray, dynamic: float | None, decay: float, gradients: str | None,
             cache: int | None, theta: float, cache_weight: float) -> Iterator[np.ndarray]:  # fmt: skip
    """-log p (n,) of the network, window by window."""
    if dynamic is not None and cache is not None:
        raise UserError(describe("eval", "--dynamic and --cache", "one of them"))
    if cache is not None:
        return adapt.cached(model, ids, cache, theta=theta, weight=cache_weight)
    if dynamic is not None:
        known = encoded(model.vocabulary, read_text(gradients)) if gradients else None
        with closing(Bar("gradients")) as bar:
            rms = None if known is None else adapt.gradient_rms(model, known, show=bar.show)
        return adapt.dynamic(model, ids, dynamic, decay=decay, rms=rms)
    return stream(model, ids)


def figures(model: LanguageModel, content: Text, ids: np.ndarray, nats: float) -> dict[str, Any]:
    """What is printed, from the sum of -log p over all symbols but the first."""
    v, n, bits = model.vocabulary, len(ids) - 1, nats / math.log(2)
    if v.unit == "word":
        characters, words = content.characters, n
    else:
        characters, words = n, sum(len(piece.split()) for piece in whole_words(content.blocks()))
    unknown = 0 if v.unknown is None else int(np.count_nonzero(ids[1:] == v.unknown))
    return {f"{v.unit}s": n, "unknown": unknown, "nats": nats / n, "bits": bits / n, "perplexity": perplexity(nats / n),
            "bits_per_character": bits / characters, "bits_per_word": bits / max(words, 1)}  # fmt: skip


def compare(network: np.ndarray, grams: np.ndarray) -> dict[str, Any]:
    """Nats a symbol on the second half: n-grams, network, and the mixture with the weight fitted on the first half."""
    half = len(network) // 2
    weight = fit_weight(network[:half], grams[:half])
    mixture = mixed(network[half:], grams[half:], weight)
    nats = {"ngrams": grams[half:].mean(), "network": network[half:].mean(), "mixture": mixture.mean()}
    return {"weight": weight, "symbols": len(network) - half, "nats": {k: float(x) for k, x in nats.items()}}


def _print(model: LanguageModel, found: dict[str, Any]) -> None:
    unit = model.vocabulary.unit
    other = "word" if unit == "character" else "character"
    n, unknown = found[f"{unit}s"], found["unknown"]
    rows = [(f"{unit}s", f"{n:,}")]
    for name, key in ((f"nats a {unit}", "nats"), (f"bits a {unit}", "bits"), ("perplexity", "perplexity"),
                      (f"bits a {other}", f"bits_per_{other}")):  # fmt: skip
        rows.append((name, f"{found[key]:.4f}"))
    if model.vocabulary.unknown is not None:
        rows.insert(1, ("unknown", f"{unknown:,} ({unknown / n:.2%})"))
    for name, value in rows:
        click.echo(f"{name:<18} {value:>12}")


def _print_comparison(model: LanguageModel, order: int, found: dict[str, Any]) -> None:
    unit, weight = model.vocabulary.unit, found["weight"]
    mixture = f"{weight:.2f} network + {1 - weight:.2f} n-grams"
    names = {"ngrams": f"{order}-grams", "network": "network", "mixture": mixture}
    title = f"the last {found['symbols']:,} {unit}s"
    click.echo(f"\n{title:<32} {f'nats a {unit}':>16} {f'bits a {unit}':>16} {'perplexity':>12}")
    for name, nats in found["nats"].items():
        click.echo(f"{names[name]:<32} {nats:16.4f} {nats / math.log(2):16.4f} {perplexity(nats):12,.2f}")


def _watched(parts: Iterator[np.ndarray], symbols: int) -> Iterator[np.ndarray]:
    """The same, with a progress bar."""
    bar, done, total = Bar("reading"), 0, 0.0
    try:
        for part in parts:
            done, total = done + len(part), total + float(part.sum())
            bar.show(done / symbols, f"{done:,} symbols  {total / done:.3f} nats")
            yield part
    finally:
        bar.close()
