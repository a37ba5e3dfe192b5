"""How well strings are reversed and copied, by their length, with attention and without.

``python -m tests.benchmarks lengths`` trains four models for MINUTES each (default 1.5) on strings of 1 to 12 letters,
translates new ones of up to 24, prints the share that is right, and draws it to PICTURE, if that is set.
"""

from __future__ import annotations

import os

import numpy as np

KNOWN, LONGEST, EACH = 12, 24, 200  # letters in training, in the test; strings of each length in the test


def accuracy(task: str, attention: str, minutes: float) -> tuple[list[float], int]:
    """The share of strings of 1, 2, .. letters that come out right, and the epochs of training."""
    from minigrad.models import Recipe, Trainer
    from minigrad.models.seq2seq.config import Seq2SeqConfig
    from minigrad.models.seq2seq.decode import Decoding, translate
    from minigrad.models.seq2seq.model import Seq2Seq
    from minigrad.models.seq2seq.pairs import Corpus, Pairs
    from minigrad.models.seq2seq.tasks import copying, reversing
    from minigrad.models.vocabulary import LineVocabularyConfig

    draw = {"reversing": reversing, "copying": copying}[task]
    sources, targets = zip(*draw(1, KNOWN, 100_000, 1))
    v = LineVocabularyConfig(level="char").build(sources)
    pairs = Pairs.of(Corpus(task, sources, targets), v, v, 64, seed=1)
    config = Seq2SeqConfig(hidden=128, embedding=32, attention=attention, dropout=0.0)
    model = Seq2Seq(config, v, v, generator=1)
    trainer = Trainer(model, pairs, None, Recipe(batch=64, lr=3e-3, minutes=minutes))
    for _ in trainer:
        pass
    found = []
    for length in range(1, LONGEST + 1):
        test = draw(length, length, EACH, 1000 + length)
        out = translate(model, [x for x, _ in test], Decoding(beam=1))
        found.append(float(np.mean([best[0].text == y for best, (_, y) in zip(out, test)])))
    return found, round(trainer.number / pairs.per_epoch)


def main() -> None:
    minutes = float(os.environ.get("MINUTES", 1.5))
    shown = {}
    for task in ("reversing", "copying"):
        for attention in ("general", "none"):
            found, epochs = accuracy(task, attention, minutes)
            name = "with attention" if attention != "none" else "without"
            shown[task, name] = found
            line = "  ".join(f"{n}: {found[n - 1]:.0%}" for n in (1, 4, 8, 12, 13, 14, 16, 20, 24))
            print(f"{task} {name:15} {epochs:3} epochs   right, by letters: {line}", flush=True)
    if path := os.environ.get("PICTURE"):
        from minigrad.viz import curves, grid, save_picture

        figure, axes = grid(2, 1, height=6.0)
        for ax, task in zip(axes, ("reversing", "copying")):
            lengths = np.arange(1, LONGEST + 1)
            series = {name: (lengths, values) for (own, name), values in shown.items() if own == task}
            curves(ax, series, "letters of a string", "share that is right")
            ax.axvspan(0.5, KNOWN + 0.5, color="#eeeeee", zorder=0)
            ax.set_title(f"{task} strings; grey: lengths seen in training", fontsize=11)
        save_picture(figure, path)


if __name__ == "__main__":
    main()
