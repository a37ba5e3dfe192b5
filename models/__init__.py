"""Floor 7: sequence models: objectives, data, decoding."""

from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.text import CharVocabulary
from minigrad.models.recipe import Recipe
from minigrad.models.training import Trainer

__all__ = ["CharVocabulary", "LanguageConfig", "LanguageModel", "Recipe", "Trainer"]
