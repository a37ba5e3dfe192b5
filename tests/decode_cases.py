"""Small models that prefer something, and the log-probabilities of a text by one call of the model."""

import numpy as np
from lm_cases import SMALL

from minigrad.models import CharVocabulary, LanguageModel, WordVocabulary

WORDS = "the cat sat .\nthe dog saw the cat .\na bird sat .\n"


def words(config=SMALL, seed=0, sharp=1.0):
    model = LanguageModel(config, WordVocabulary.of(WORDS * 5, tokens="spaces"), generator=seed)
    return sharpened(model, sharp)


def tiny(symbols="abc\n", seed=0, sharp=30.0):
    return sharpened(LanguageModel(SMALL, CharVocabulary.of(symbols), generator=seed), sharp)


def sharpened(model, factor):
    """A fresh model is nearly uniform; a larger output layer makes it prefer something."""
    if factor != 1:
        model.output.weight.data = model.output.weight.numpy() * np.float32(factor)
    return model


def log_p(model, ids):
    """log p of each symbol behind the start (n,)."""
    if not len(ids):
        return np.empty(0)
    ids = np.append(model.vocabulary.start, ids).astype(np.int64)
    logits = model(ids[:-1, None])[0].numpy()[:, 0].astype(np.float64)
    return (logits - np.logaddexp.reduce(logits, -1)[:, None])[np.arange(len(ids) - 1), ids[1:]]
