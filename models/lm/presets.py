"""Floor 7: recipes of published language models, by name: what ``minigrad lm train --preset`` sets.

Each is the settings in which the paper, or the code published with it, differs from the defaults of ``LanguageConfig``,
``WindowRecipe`` and ``TextPace``; any option of the command line overrides them.
"""

from __future__ import annotations

from typing import Any

from minigrad.models.settings import preset_of

# Zaremba, Sutskever and Vinyals 2014, "Recurrent neural network regularization". The loss is summed over the window,
# and so the rate of 1 and the norm of 5 are; each epoch begins with empty states; dropout before, between and behind
# the layers. Test perplexity on the Penn Treebank: 115.9 (small, TensorFlow's ptb_word_lm), 82.7, 78.4.
ZAREMBA: dict[str, Any] = {
    "level": "word", "tokens": "spaces", "vocab_size": 10_000, "cell": "lstm", "layers": 2, "forget_bias": 0.0,
    "optimizer": "sgd", "lr": 1.0, "warmup": 0, "schedule": "hold", "reduction": "sum", "batch": 20, "reset": 0,
}  # fmt: skip


def _zaremba(
    units: int, window: int, drop: float, init: float, clip: float, hold: int, decay: float, epochs: int
) -> Any:
    return {
        **ZAREMBA, "hidden": units, "embedding": units, "window": window, "init": init, "clip": clip, "hold": hold,
        "input_dropout": drop, "dropout": drop, "output_dropout": drop, "decay": decay, "epochs": epochs,
        "validations": epochs,
    }  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    "zaremba-small": _zaremba(200, 20, 0.0, 0.1, 5.0, 4, 1 / 2, 13),
    "zaremba-medium": _zaremba(650, 35, 0.5, 0.05, 5.0, 6, 0.8, 39),
    "zaremba-large": _zaremba(1500, 35, 0.65, 0.04, 10.0, 14, 1 / 1.15, 55),
    # Karpathy 2015, char-rnn: two layers of 128, RMSprop, the gradient of the summed loss cut off at 5, the rate falls
    # after 10 epochs. (There the state is carried over the end of an epoch, too.)
    "char-rnn": {
        "level": "char", "cell": "lstm", "layers": 2, "hidden": 128, "embedding": 128, "batch": 50, "window": 50,
        "optimizer": "rmsprop", "lr": 2e-3, "warmup": 0, "schedule": "hold", "hold": 10, "decay": 0.97, "clip": 5.0,
        "clip_by": "value", "reduction": "sum", "init": 0.08, "reset": 0, "epochs": 50, "validations": 50,
    },
    # Merity, Keskar and Socher 2018, "Regularizing and optimizing LSTM language models" (AWD-LSTM), with the settings
    # published for the Penn Treebank: 58.8 without its second training. The patience only keeps the best model.
    "awd-lstm": {
        "level": "word", "tokens": "spaces", "vocab_size": 10_000, "cell": "lstm", "layers": 3, "hidden": 1150,
        "embedding": 400, "embedding_init": 0.1, "tied": True, "variational": True, "input_dropout": 0.4,
        "dropout": 0.25, "output_dropout": 0.4, "embedding_dropout": 0.1, "weight_dropout": 0.5,
        "activation_penalty": 2.0, "temporal_penalty": 1.0, "forget_bias": 0.0, "optimizer": "sgd", "lr": 30.0,
        "warmup": 0, "schedule": "hold", "clip": 0.25, "weight_decay": 1.2e-6, "average": "nt-asgd", "stall": 5,
        "patience": 500, "batch": 20, "window": 70, "jitter": True, "reset": 0, "epochs": 500, "validations": 500,
    },
}  # fmt: skip


def preset(name: str) -> dict[str, Any]:
    """The settings of a name; UserError that names the nearest one.

    >>> preset("zaremba-small")["hidden"]
    200
    """
    return preset_of(PRESETS, name)
