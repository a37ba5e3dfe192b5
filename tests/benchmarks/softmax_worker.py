"""A process that trains a language model with one output layer, named by the variables SOFTMAX and SAMPLES; see
``harness.serve``."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

import minigrad as mg
from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel
from minigrad.models.sampling import LogUniform
from tests.benchmarks.harness import serve


def language_model(sizes: list[int], update: bool = True) -> Callable[[], dict]:
    """A training step over words as frequent as Zipf's law has it; without ``update``, loss and gradients only."""
    T, B, V, H = sizes
    config = LanguageConfig(hidden=H, embedding=H, softmax=os.environ["SOFTMAX"], samples=int(os.environ["SAMPLES"]))
    vocabulary = CharVocabulary("".join(map(chr, range(0x10000, 0x10000 + V))))
    model = LanguageModel(config, vocabulary, generator=0)
    optimizer = mg.optim.Adam(model.parameters())
    ids = LogUniform(V).draw((T + 1) * B, np.random.default_rng(0)).reshape(T + 1, B)

    def step() -> dict:
        optimizer.zero_grad()
        model.loss(ids[:-1], ids[1:])[0].backward()
        if update:
            mg.optim.clip_grad_norm_(optimizer.parameters, 1.0)
            optimizer.step()
        return {}

    return step


def build(sizes: list[int], update: bool = True) -> Callable[[], dict]:
    T, B, _, H = sizes
    language_model([T, B, 1000, H])()  # its kernels are compiled before anything is measured
    return language_model(sizes, update)


if __name__ == "__main__":
    serve(build)
