"""Floor 7: what a network learned: ``minigrad lm gradients``, ``gates``, ``nearest``, ``curves`` and ``agreement``.

Each prints a table, and draws with ``--plot`` a PNG or SVG.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from minigrad import viz
from minigrad.errors import UserError, describe
from minigrad.models.lm import inspect
from minigrad.models.lm.agreement import CELLS, Agreement, accuracies, train
from minigrad.models.lm.cells import cell_of
from minigrad.models.lm.commands import chosen_text, lm, model_argument, text_option
from minigrad.models.lm.commands.use import warn_of_unknown
from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.lm.score import unknown
from minigrad.models.progress import Bar, clock, print_json
from minigrad.models.vocabulary import CharVocabulary

BACK = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
path_type = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="as one JSON object")
plot_option = click.option(
    "--plot", type=path_type, metavar="FILE", help="draw a .png or .svg (needs matplotlib)",
    callback=lambda ctx, parameter, value: value and viz.check_picture(value),
)  # fmt: skip


def _known(ctx: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of cells, once it is sure that all of them are some."""
    for name in names:
        cell_of(LanguageConfig(cell=name).cell)
    return names


def _draw(figure: Any, path: Path) -> None:
    viz.save_picture(figure, path)
    click.echo(f"drawn {path}", err=True)


def _names(paths: Iterable[Path]) -> list[str]:
    """The stems of files, or whole paths where two stems are the same."""
    paths = list(paths)
    stems = [p.name.removesuffix(".metrics.jsonl").removesuffix(".safetensors") for p in paths]
    return stems if len(set(stems)) == len(stems) else [str(p) for p in paths]


# ---------------------------------------------------------------- gradients


@lm.command()
@click.argument("models", type=path_type, nargs=-1)
@text_option
@click.option("--cell", "cells", multiple=True, callback=_known, metavar="NAME",
              help="cells of untrained models  [default: rnn, gru, lstm]")  # fmt: skip
@click.option("--hidden", type=click.IntRange(1, 100_000), default=128, show_default=True, help="units of those")
@click.option("--gain", type=click.FloatRange(0, 1000), default=1.0, show_default=True,
              help="factor on the recurrent weights: with a large one, gradients explode")  # fmt: skip
@click.option("--length", type=click.IntRange(2, 100_000), default=100, show_default=True, help="symbols read (T)")
@click.option("--batch", type=click.IntRange(1, 10_000), default=16, show_default=True, help="places of the text (B)")
@click.option("--clip-norm", type=float, help="bound of the norm  [default: half the norm]")
@click.option("--clip-value", type=float, help="bound of each number  [default: so that half the norm is left]")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@json_option
@plot_option
def gradients(models: tuple[Path, ...], text: str | None, cells: tuple[str, ...], hidden: int, gain: float, length: int,
              batch: int, clip_norm: float | None, clip_value: float | None, seed: int, as_json: bool,
              plot: Path | None) -> None:  # fmt: skip
    """How the gradient of the last symbol's loss fades or grows through time, in trained models or untrained cells.

    Then what clipping does to the gradient of the parameters: by norm it keeps its direction, by value it turns.
    """
    for name, bound in (("clip-norm", clip_norm), ("clip-value", clip_value)):
        if bound is not None and not 0 < bound < np.inf:
            raise UserError(describe(name, str(bound), "a positive number"))
    if not np.isfinite(gain):  # click takes NaN for a number in any range
        raise UserError(describe("gain", str(gain), "a number from 0 to 1000"))
    if models and cells:
        raise UserError(describe("cell", "--cell beside models", "one of the two", "a trained model has its cell"))
    content = chosen_text(text).content
    if models:
        loaded = dict(zip(_names(models), map(LanguageModel.load, models)))
    else:
        known = CharVocabulary.of(content)
        loaded = {c: LanguageModel(LanguageConfig(cell=c, hidden=hidden), known, generator=seed)
                  for c in dict.fromkeys(cells or CELLS)}  # fmt: skip
    norms: dict[str, np.ndarray] = {}
    effects: dict[str, list[inspect.Clipped]] = {}
    raw: dict[str, Any] = {}
    for name, model in loaded.items():
        for parameter, p in model.named_parameters():
            if "weight_hh" in parameter and gain != 1.0:
                p.data = p.beside(p.numpy() * np.float32(gain)).data
        ids = _places(model.vocabulary.encode(content), length, batch)
        norms |= {f"{name} {state}": n for state, n in inspect.gradient_norms(model, ids).items()}
        raw[name] = inspect.parameter_gradients(model, ids)
        half = inspect.clipping_to(raw[name], 0.5)
        effects[name] = inspect.clipping(raw[name], clip_norm or half[0].bound, clip_value or half[1].bound)
        if not np.isfinite(norm := half[0].before):
            click.echo(f"the gradient of {name} overflowed: its norm is {norm}", err=True)
    faded = {name: inspect.fading(n) for name, n in norms.items()}
    if as_json:
        print_json({
            "length": length, "norms": {name: n.tolist() for name, n in norms.items()},
            "fading": {name: f._asdict() for name, f in faded.items()},
            "clipping": {name: [c._asdict() for c in cs] for name, cs in effects.items()},
        })  # fmt: skip
    else:
        click.echo(f"mean norm of the gradient of the last symbol's loss by the state, over {batch} places of the text")
        back = [k for k in BACK if k < length]
        click.echo(
            viz.table(("steps back", *norms), [(k, *(f"{n[-1 - k]:.2e}" for n in norms.values())) for k in back])
        )
        click.echo("\na step back multiplies it by")
        rows = [(n, *(("-",) * 4 if np.isnan(f.median) else (*f[:3], f.steps or "more"))) for n, f in faded.items()]
        click.echo(viz.table(("state", "median", "least", "most", "steps to 1 %"), rows))
        click.echo("\nclipping the gradient of the parameters")
        clipped = [(name, *c._replace(bound=_dash(c.bound), cosine=_dash(c.cosine)))
                   for name, cs in effects.items() for c in cs]  # fmt: skip
        click.echo(viz.table(("model", "by", "bound", "norm before", "after", "cosine"), clipped))
    if plot:
        _draw(_gradient_figure(norms, raw, batch), plot)


def _dash(x: float) -> float | str:
    return "-" if np.isnan(x) else x


def _places(ids: np.ndarray, length: int, batch: int) -> np.ndarray:
    """(length + 1, B) symbols from places spread over a text."""
    if len(ids) <= length:
        raise UserError(
            describe("text", f"{len(ids):,} symbols", f"more than --length {length:,}", "use a longer text")
        )
    first = np.linspace(0, len(ids) - length - 1, batch).astype(int)
    return ids[first[None] + np.arange(length + 1)[:, None]]


def _gradient_figure(norms: dict[str, np.ndarray], raw: dict[str, Any], batch: int) -> Any:
    figure, (left, right) = viz.grid(1, 2, width=13.5, height=4.8)
    left.set_title("Through time: the last symbol's loss")
    viz.curves(left, {name: (np.arange(len(n)), n[::-1]) for name, n in norms.items()}, "steps back in time",
               f"gradient by the state: norm, mean of {batch} (nats)", logarithmic=True)  # fmt: skip
    shares = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
    lines = {
        f"{name}, by value": (shares, [inspect.clipping_to(g, s)[1].cosine for s in shares]) for name, g in raw.items()
    }
    right.set_title("Clipping the gradient of the parameters")
    viz.curves(right, {**lines, "all, by norm": (shares, np.ones(len(shares)))}, "share of the norm that is left",
               "cosine between the gradient before and after")  # fmt: skip
    right.invert_xaxis()
    return figure


# ---------------------------------------------------------------- gates


@lm.command()
@model_argument
@click.argument("text")
@click.option("--unit", type=int, help="which of the H units  [default: the one whose h varies most]")
@click.option("--layer", type=int, default=0, show_default=True, help="counted from 0")
@click.option("--color/--no-color", "colour", default=None, help="coloured text  [default: in a terminal]")
@json_option
@plot_option
def gates(model: Path, text: str, unit: int | None, layer: int, colour: bool | None, as_json: bool,
          plot: Path | None) -> None:  # fmt: skip
    """The gates of one unit while a model reads a text: each symbol on a background that shows the value."""
    loaded = LanguageModel.load(model)
    ids = loaded.vocabulary.encode(text)
    if not len(ids):
        raise UserError(describe("text", "an empty text", "one symbol at least"))
    warn_of_unknown(unknown(loaded.vocabulary, text))
    found = inspect.gates(loaded, ids, layer)
    units = found["h"].shape[1]
    if unit is None:
        unit = int(found["h"].std(0).argmax())
    if not 0 <= unit < units:
        raise UserError(describe("unit", str(unit), f"0 to {units - 1}"))
    values = {name: a[:, unit] for name, a in found.items()}  # (T,) each
    symbols = [_shown(loaded.vocabulary.token(int(i))) for i in ids]
    title = f"{loaded.config.cell}, unit {unit} of layer {layer}, while it reads"
    figure = _gate_figure(symbols, values, title) if plot else None
    if as_json:
        record = {"unit": unit, "layer": layer, "symbols": symbols, **{n: v.tolist() for n, v in values.items()}}
        print_json(record)
    else:
        click.echo(f"unit {unit} of layer {layer}, {loaded.config.cell}")
        if sys.stdout.isatty() if colour is None else colour:
            _coloured(symbols, values, loaded.vocabulary.unit == "word")
        else:
            rows = [(s, *(f"{v[t]:.3f}" for v in values.values())) for t, s in enumerate(symbols)]
            click.echo(viz.table(("symbol", *(f"{name:>6}" for name in values)), rows))
    if plot:
        _draw(figure, plot)


def _shown(token: str) -> str:
    return {"\n": "↵", "\t": "→", " ": "␣"}.get(token, token if token.isprintable() else "�")


def _scale(values: dict[str, np.ndarray]) -> dict[str, float]:
    """What counts as the end of a colour scale: 1, but for a state that goes further."""
    return {name: max(1.0, float(np.abs(v).max())) if name in ("c", "h") else 1.0 for name, v in values.items()}


def _coloured(symbols: Sequence[str], values: dict[str, np.ndarray], words: bool) -> None:
    width = shutil.get_terminal_size().columns - 4
    texts = [s + " " if words else " " if s == "␣" else s for s in symbols]
    scale, first = _scale(values), 0
    while first < len(texts):
        last, used = first, 0
        while last < len(texts) and (last == first or used + len(texts[last]) <= width):
            used, last = used + len(texts[last]), last + 1
        for name, v in values.items():
            signed = name not in inspect.GATES
            parts = (viz.on_colour(texts[t], v[t] / scale[name], signed=signed) for t in range(first, last))
            click.echo(f"{name}   {''.join(parts)}", color=True)
        click.echo()
        first = last
    ramp = np.linspace(0, 1, 11)
    click.echo("0 " + "".join(viz.on_colour(" ", x) for x in ramp) + " 1   "
               f"-{scale.get('c', 1.0):.3g} " + "".join(viz.on_colour(" ", 2 * x - 1, signed=True) for x in ramp)
               + f" {scale.get('c', 1.0):.3g}", color=True)  # fmt: skip


def _gate_figure(symbols: list[str], values: dict[str, np.ndarray], title: str) -> Any:
    """One map of the gates between 0 and 1 and one of what has a sign, in lines of so many symbols."""
    words = any(len(s) > 1 for s in symbols)
    per_line, most = (24, 20 * 24) if words else (60, 20 * 60)
    if len(symbols) > most:
        raise UserError(describe("text", f"{len(symbols):,} symbols", f"{most:,} at most in a picture", "shorten it"))
    scale = _scale(values)
    parts = [[n for n in values if n in inspect.GATES], [n for n in values if n not in inspect.GATES]]
    parts = [p for p in parts if p]
    starts = range(0, len(symbols), per_line)
    rows = len(starts) * len(parts)
    columns = min(per_line, len(symbols))
    height = 2.2 + sum(len(starts) * (0.34 * len(p) + (0.9 if words else 0.45)) for p in parts)
    figure, axes = viz.grid(
        rows, 1, width=max(2.2 + columns * (0.42 if words else 0.17), 5), height=height, title=title
    )
    for k, (start, names) in enumerate((s, p) for s in starts for p in parts):
        shown = symbols[start : start + per_line]
        image = np.full((len(names), columns), np.nan)
        image[:, : len(shown)] = [values[n][start : start + per_line] / scale[n] for n in names]
        labels = [n if scale[n] == 1 else f"{n} / {scale[n]:.2g}" for n in names]
        signed = names[0] not in inspect.GATES
        drawn = viz.heat(axes[k], image, labels, shown, low=-1.0 if signed else 0.0, high=1.0)
        if k < len(parts):
            label = ", ".join(labels) + (": value" if signed else ": share let through")
            figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.5, aspect=40, label=label)
    return figure


# ---------------------------------------------------------------- neighbours and curves


@lm.command()
@model_argument
@click.argument("words", nargs=-1, required=True)
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="neighbours of each")
@json_option
@plot_option
def nearest(model: Path, words: tuple[str, ...], count: int, as_json: bool, plot: Path | None) -> None:
    """The words or characters whose embedding is nearest by the cosine of the angle between them."""
    loaded = LanguageModel.load(model)
    vocabulary, vectors = loaded.vocabulary, loaded.embedding.weight.numpy()
    found = {}
    for word in dict.fromkeys(words):
        ids = vocabulary.encode(word, "nearest")
        if len(ids) != 1 or (ids[0] == vocabulary.unknown and word != vocabulary.token(vocabulary.unknown)):
            got = f"{word!r}, " + ("which is not in it" if len(ids) == 1 else f"which is {len(ids)} {vocabulary.unit}s")
            raise UserError(describe("nearest", got, f"one {vocabulary.unit} of the model's vocabulary"))
        near = inspect.nearest(vectors, int(ids[0]), count)
        found[word] = [(_shown(vocabulary.token(i)), cosine) for i, cosine in near]
    figure = _nearest_figure(found, vocabulary.unit) if plot else None
    if as_json:
        print_json(found)
    else:
        for k, (word, near) in enumerate(found.items()):
            click.echo(("\n" if k else "") + viz.table((_shown(word), "cosine"), [(w, f"{c:6.3f}") for w, c in near]))
    if plot:
        _draw(figure, plot)


def _nearest_figure(found: dict[str, list[tuple[str, float]]], unit: str) -> Any:
    if sum(map(len, found.values())) > 300:
        raise UserError(describe("plot", "more than 300 neighbours", "fewer", "lower --count or ask for fewer words"))
    heights = [1.1 + 0.24 * len(near) for near in found.values()]
    figure, axes = viz.grid(
        len(found), 1, width=6.5, height=sum(heights) + 0.4, title=f"Nearest {unit}s of the embedding"
    )
    for ax, (word, near) in zip(axes, found.items()):
        viz.bars(ax, near, "cosine")
        ax.set_title(_shown(word), loc="left", fontsize=11, fontweight="bold")
        ax.set_xlim(min([0.0, *(c for _, c in near)]), 1.0)
    return figure


@lm.command()
@click.argument("metrics", type=path_type, nargs=-1, required=True)
@click.option("--x", "x", type=click.Choice(["step", "epoch", "minutes"]), default="step", show_default=True,
              help="what the picture shows the loss against")  # fmt: skip
@json_option
@plot_option
def curves(metrics: tuple[Path, ...], x: str, as_json: bool, plot: Path | None) -> None:
    """The loss curves of trainings, from the *.metrics.jsonl beside their models, several in one picture."""
    runs = dict(zip(_names(metrics), map(inspect.read_metrics, metrics)))
    rows, validations, trainings = [], {}, {}
    for name, run in runs.items():
        steps, losses = run.pairs("step", "validation_loss")
        if not len(losses):
            raise UserError(describe(f"metrics {name}", "no validation_loss", "one at least", "train longer"))
        seconds, training, best = run.pairs("step", "seconds")[1], run.pairs("step", "train_loss")[1], losses.argmin()
        time = clock(seconds.max()) if len(seconds) else ""
        last = float(training[-1]) if len(training) else np.nan
        rows.append((name, int(run.columns["step"][-1]), time, last, float(losses[-1]), float(losses[best]),
                     int(steps[best])))  # fmt: skip
        column, factor = ("seconds", 1 / 60) if x == "minutes" else (x, 1.0)
        for into, y in ((validations, "validation_loss"), (trainings, "train_loss")):
            a, b = run.pairs(column, y)
            into[name] = (a * factor, b)
    head = ("run", "steps", "time", "training", "validation", "best", "at step")
    if as_json:
        print_json([dict(zip(head, row)) for row in rows])
    else:
        click.echo(viz.table(head, [(*row[:3], *(f"{loss:.4f}" for loss in row[3:6]), row[6]) for row in rows]))
    if plot:
        figure, (ax,) = viz.grid(title="Loss while training (thick: validation, thin: training)")
        viz.curves(
            ax, validations, {"step": "step", "epoch": "epoch", "minutes": "time (minutes)"}[x], "loss (nats a symbol)"
        )
        viz.curves(ax, trainings, ax.get_xlabel(), ax.get_ylabel(), faint=True)
        _draw(figure, plot)


# ---------------------------------------------------------------- agreement


@lm.command()
@Agreement.options
@click.option("--cell", "cells", multiple=True, callback=_known, metavar="NAME",
              help="which cells  [default: rnn, gru, lstm]")  # fmt: skip
@json_option
@plot_option
def agreement(cells: tuple[str, ...], as_json: bool, plot: Path | None, **values: Any) -> None:
    """The cat, which already saw ..., was full; the cats, ... were full: accuracy against distance, for three cells.

    Models are trained on generated sentences, and then asked for the verb at larger distances too.
    """
    settings = Agreement.pick(values)
    cells = tuple(dict.fromkeys(cells or CELLS))
    found: dict[str, np.ndarray] = {}  # (seeds, distances)
    bar, distances = Bar("compiling kernels"), []
    try:
        for cell in cells:
            runs = []
            for k in range(settings.seeds):
                own = replace(settings, seed=settings.seed + k)
                model = train(cell, own, lambda p, text, k=k: bar.show((k + p) / settings.seeds, text))
                distances, scores = zip(*accuracies(model, own))
                runs.append(scores)
                bar.line(f"{cell}, seed {own.seed}: {np.mean(scores):.1%} over all distances")
            found[cell] = np.array(runs)
    finally:
        bar.close()
    if as_json:
        scores = {c: {"mean": a.mean(0).tolist(), "runs": a.tolist()} for c, a in found.items()}
        print_json({**settings.to_json(), "distance": distances, "accuracy": scores})
    else:
        trained = settings.longest
        click.echo(f"right verbs of {settings.sentences} at each distance, mean of {settings.seeds} trainings "
                   f"(least - most); trained on up to {trained} words")  # fmt: skip
        rows = [(d, *(_spread(a[:, k]) for a in found.values())) for k, d in enumerate(distances)]
        click.echo(viz.table(("words between", *found), rows))
    if plot:
        _draw(_agreement_figure(list(distances), found, settings), plot)


def _spread(scores: np.ndarray) -> str:
    return f"{scores.mean():6.1%}" + (f" ({scores.min():.0%} - {scores.max():.0%})" if len(scores) > 1 else "")


def _agreement_figure(distances: list[int], found: dict[str, np.ndarray], settings: Agreement) -> Any:
    title = f"The cat, which already saw the dogs ..., was full (thin: each of {settings.seeds} trainings)"
    figure, (ax,) = viz.grid(title=title)
    names = "words between subject and verb", "right form of the verb (%)"
    for k in range(settings.seeds):
        viz.curves(ax, {cell: (distances, 100 * a[k]) for cell, a in found.items()}, *names, faint=True)
    viz.curves(ax, {cell: (distances, 100 * a.mean(0)) for cell, a in found.items()}, *names, every=1)
    ax.axvline(settings.longest, color="#444444", linewidth=1, linestyle=":")
    ax.text(settings.longest, 103, " longest in training", color="#444444", fontsize=9, va="bottom")
    ax.axhline(50, color="#444444", linewidth=1, linestyle=":")
    ax.set_ylim(40, 103)
    return figure
