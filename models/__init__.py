"""Floor 7: sequence models: objectives, data, decoding."""

from minigrad.models.lm.cells import register_cell
from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.recipe import Recipe
from minigrad.models.training import Trainer
from minigrad.models.vocabulary import CharVocabulary, WordVocabulary

__all__ = ["CharVocabulary", "LanguageConfig", "LanguageModel", "Recipe", "Trainer", "WordVocabulary",
           "register_cell"]  # fmt: skip
