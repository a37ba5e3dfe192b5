"""Floor 7: sequence models: objectives, data, decoding."""

from minigrad.models.caption.model import Captioner
from minigrad.models.embed.formats import read_vectors, write_vectors
from minigrad.models.embed.glove import GloVe
from minigrad.models.embed.objectives import CBOW, SkipGram
from minigrad.models.embed.vectors import WordVectors
from minigrad.models.lm.cells import register_cell
from minigrad.models.lm.model import LanguageConfig, LanguageModel
from minigrad.models.recipe import Recipe, WindowRecipe
from minigrad.models.seq2seq.beam import Decoding
from minigrad.models.seq2seq.config import Seq2SeqConfig
from minigrad.models.seq2seq.decode import translate
from minigrad.models.seq2seq.model import Seq2Seq
from minigrad.models.training import Trainer
from minigrad.models.vocabulary import CharVocabulary, WordVocabulary

__all__ = [
    "CBOW", "Captioner", "CharVocabulary", "Decoding", "GloVe", "LanguageConfig", "LanguageModel", "Recipe", "Seq2Seq",
    "Seq2SeqConfig", "SkipGram", "Trainer", "WindowRecipe", "WordVectors", "WordVocabulary", "read_vectors",
    "register_cell", "translate", "write_vectors",
]  # fmt: skip
