"""Floor 7: settings of sequence-to-sequence models, by name: what ``minigrad seq2seq train --preset`` sets.

Each is what differs from the defaults; any option of the command line overrides it.
"""

from __future__ import annotations

from typing import Any

from minigrad.models.settings import preset_of

SHAPE: dict[str, Any] = {
    "level": "word", "cell": "lstm", "layers": 1, "hidden": 256, "embedding": 256, "dropout": 0.3,
    "label_smoothing": 0.1, "batch": 64, "lr": 2e-3, "warmup": 500, "minutes": 30.0,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    # Luong, Pham and Manning 2015, "Effective approaches to attention-based neural machine translation": general scores
    # and input feeding; an encoder of both directions as in Bahdanau, Cho and Bengio 2015.
    "attention": {**SHAPE, "direction": "both", "attention": "general"},
    # Sutskever, Vinyals and Le 2014, "Sequence to sequence learning with neural networks": the source is read backward,
    # and nothing of it is left but the encoder's last state.
    "plain": {**SHAPE, "direction": "backward", "attention": "none"},
    # Generated dates, or other short lines of characters.
    "dates": {
        "level": "char", "cell": "gru", "layers": 1, "hidden": 128, "embedding": 32, "attention": "general",
        "dropout": 0.0, "batch": 64, "lr": 4e-3, "warmup": 100, "validations": 10, "steps": 6000,
    },
}  # fmt: skip


def preset(name: str) -> dict[str, Any]:
    """The settings of a name; UserError that names the nearest one.

    >>> preset("plain")["attention"]
    'none'
    """
    return preset_of(PRESETS, name)
