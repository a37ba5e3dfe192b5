"""Floor 7: sequence models: objectives, data, decoding."""

from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.training import Recipe, Trainer
from minigrad.models.vocabulary import CharVocabulary, WordVocabulary

__all__ = ["CharVocabulary", "LanguageConfig", "LanguageModel", "Recipe", "Trainer", "WordVocabulary"]
