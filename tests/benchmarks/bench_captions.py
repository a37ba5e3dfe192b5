"""Captions of strips of handwritten digits, "three seven one", with attention and without.

``python -m tests.benchmarks captions`` reads DIGITS, a folder with optdigits.tra, .hol and .tes (Alpaydin and Kaynak
1998, UCI), or, without it, draws digits by code. Each side trains for MINUTES (default 3) on strips of the training
digits, and names those of 2,000 strips of the test digits. PICTURE: what was attended to in one of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

TRAINED, TESTED = 60_000, 2_000  # strips


def digits() -> tuple[Any, Any]:
    """Images and labels, to train and to test."""
    from minigrad.models.caption.digits import drawn, read_optdigits

    if folder := os.environ.get("DIGITS"):
        tra, hol, tes = (read_optdigits(Path(folder) / f"optdigits.{part}") for part in ("tra", "hol", "tes"))
        return tuple(np.concatenate(pair) for pair in zip(tra, hol)), tes
    return drawn(4000, seed=1), drawn(1800, seed=2)


def main() -> None:
    from minigrad.models import Captioner, Decoding, Recipe, Seq2SeqConfig, Trainer, WordVocabulary
    from minigrad.models.caption.digits import NAMES, patches, strips
    from minigrad.models.caption.model import Images

    minutes = float(os.environ.get("MINUTES", 3))
    train, test = digits()
    print(f"{len(train[1]):,} digits to train on, {len(test[1]):,} to test with", flush=True)
    known, asked = strips(*train, TRAINED, seed=1), strips(*test, TESTED, seed=2)
    v = WordVocabulary(NAMES, "lines")
    windows = [patches(strip) for strip, _ in known]
    batches = Images(windows, [v.encode(words) for _, words in known], 64, seed=1, end=v.end)
    for attention in ("general", "none"):
        config = Seq2SeqConfig(hidden=128, embedding=64, attention=attention, dropout=0.3)
        model = Captioner(config, windows[0].shape[1], v, generator=1)
        trainer = Trainer(model, batches, None, Recipe(batch=64, lr=3e-3, minutes=minutes))
        for _ in trainer:
            pass
        found = [best[0] for best in model.captions([patches(strip) for strip, _ in asked], Decoding(beam=1))]
        right = np.array([one.text == words for one, (_, words) in zip(found, asked)])
        lengths = np.array([len(words.split()) for _, words in asked])
        by = "  ".join(f"{n}: {right[lengths == n].mean():.1%}" for n in range(1, 6))
        name = "with attention" if attention != "none" else "without"
        epochs = trainer.number / batches.per_epoch
        print(f"{name:15} {epochs:4.1f} epochs   captions right {right.mean():.1%}   by digits: {by}", flush=True)
        if (path := os.environ.get("PICTURE")) and attention != "none":
            draw(path, *next((s, one) for (s, _), one in zip(asked, found) if len(one.ids) == 5))


def draw(path: str, strip: np.ndarray, found: Any) -> None:
    """A strip, and below it how much every word attended to each window, drawn at the middle of the window."""
    from minigrad.viz import grid, save_picture

    rows = [*found.text.split(), "END"]
    share = np.zeros((len(rows), strip.shape[1]))
    for s in range(found.weights.shape[1]):  # columns 2 s .. 2 s + 3
        share[:, 2 * s + 1 : 2 * s + 3] = found.weights[:, s : s + 1]
    figure, (above, below) = grid(2, 1, width=8.0, height=3.4, title="What each word attended to")
    above.imshow(strip, cmap="Greys", aspect="auto", interpolation="nearest")
    above.axis("off")
    image = below.imshow(share, cmap="Blues", aspect="auto", interpolation="nearest", vmin=0.0, vmax=1.0)
    below.set_yticks(range(len(rows)), rows)
    below.set_xticks([])
    below.grid(False)
    figure.colorbar(image, ax=[above, below], label="share of the word's attention")
    save_picture(figure, path)


if __name__ == "__main__":
    main()
