"""A small text, a small model and a short recipe, for the tests of language models."""

from minigrad.models import CharVocabulary, LanguageConfig, LanguageModel, Trainer, WindowRecipe
from minigrad.models.batches import Windows

TEXT = "the cat sat on the mat, and the dog saw the cat.\n" * 20
SMALL = LanguageConfig(hidden=12, embedding=6)
RECIPE = WindowRecipe(batch=3, window=7, steps=6)


def make(config=SMALL, text=TEXT, seed=0):
    return LanguageModel(config, CharVocabulary.of(text), generator=seed)


def make_trainer(recipe=RECIPE, config=SMALL):
    model = make(config, seed=recipe.seed)
    batches = Windows(model.vocabulary.encode(TEXT), recipe.batch, recipe.window, recipe.reset)
    return Trainer(model, batches, model.initial_state(recipe.batch), recipe)
