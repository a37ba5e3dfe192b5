"""Floor 7: a captioner: the distribution of a text, given an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor
from minigrad.errors import ShapeError, UserError, describe
from minigrad.models.batches import side_by_side
from minigrad.models.files import check_sizes
from minigrad.models.seq2seq.beam import Decoding, check_vocabulary, search
from minigrad.models.seq2seq.config import Seq2SeqConfig
from minigrad.models.seq2seq.decode import Translation, batches_of
from minigrad.models.seq2seq.model import EncoderDecoder, sizes
from minigrad.models.seq2seq.pairs import Pairs
from minigrad.models.vocabulary import Vocabulary, vocabulary_from_json
from minigrad.nn.module import Seed


@nn.loadable
class Captioner(EncoderDecoder):
    """p(y | image). An image is a sequence of feature rows (S, P): patches of it, or what another network made of
    it; S = 1 for one row of features. Each becomes x = W_2 relu(W_1 f + b_1) + b_2, and the recurrent layers of the
    encoder run over those. The decoder attends to them, or, with ``attention="none"``, only begins with their end
    (Vinyals et al. 2015, "Show and tell"; Xu et al. 2015, "Show, attend and tell").

    Images are an array (S, B, P) with lengths (B,); targets as for ``Seq2Seq``.

    >>> from minigrad.models import WordVocabulary
    >>> v = WordVocabulary(["one", "two"], "lines")
    >>> model = Captioner(Seq2SeqConfig(hidden=8, embedding=4), 5, v, generator=0)
    >>> [len(found) for found in model.captions([np.ones((3, 5)), np.ones((1, 5))])]
    [1, 1]
    """

    def __init__(self, config: Seq2SeqConfig, features: int, target: Vocabulary, *, generator: Seed = None):
        super().__init__(config, target, generator=generator)
        self.features, rng = features, self.generator
        self.patch = [nn.Linear(features, config.hidden, generator=rng),
                      nn.Linear(config.hidden, config.embedding, generator=rng)]  # fmt: skip

    def embedded(self, source: Any) -> Tensor:
        source = np.asarray(source, self.embedding.weight.dtype)
        if source.ndim != 3 or source.shape[2] != self.features:
            raise ShapeError(describe("Captioner", f"images {source.shape}", f"(S, B, P) with P = {self.features}"))
        first, second = self.patch
        return second(ops.relu(first(first.weight.beside(source))))

    def captions(self, images: Sequence[np.ndarray], how: Decoding | None = None,
                 batch: int = 64) -> list[list[Translation]]:  # fmt: skip
        """For each image (S, P), in their order, its captions, best first: ``how.n_best`` at most, one at least."""
        how, v, found = how or Decoding(), self.target, [[] for _ in images]
        check_vocabulary(v, how)
        if batch < 1:
            raise UserError(describe("batch", str(batch), "1 or more"))
        if how.replace_unknown:
            raise UserError(describe("replace_unknown", "an image", "a text, whose words can take the place of <UNK>"))
        for number, image in enumerate(images, 1):
            if np.ndim(image) != 2 or not len(image) or image.shape[1] != self.features:
                expected = f"(S, P) with S of at least 1 and P = {self.features}"
                raise ShapeError(describe(f"image {number}", f"features {np.shape(image)}", expected))
        for chosen in batches_of([len(image) for image in images], how, batch, len(v)):
            source, lengths = side_by_side([images[i] for i in chosen], np.float32)
            with self.inference():
                outputs = search(self, source, lengths, how, start=v.start, end=v.end, unknown=v.unknown)
            for i, own in zip(chosen, outputs):
                found[i] = [Translation(v.decode(one.ids[: len(one.ids) - one.complete]), *one) for one in own]
        return found

    # ---------------------------------------------------------------- on disk

    def made_of(self) -> dict[str, Any]:
        return {"config": self.config.to_json(), "features": self.features, "target": self.target.to_json()}

    @classmethod
    def remade(cls, where: str, meta: dict[str, Any], parameters: dict[str, np.ndarray]) -> Captioner:
        config = Seq2SeqConfig.from_json(where, meta.get("config"))
        target, features = vocabulary_from_json(where, meta.get("target")), meta.get("features")
        if type(features) is not int:  # 5.0 would equal 5
            raise UserError(describe(where, f"features {features!r}", "a whole number", "the file is damaged"))
        H, D = config.hidden, config.embedding
        expected = {"patch.0.weight": (H, features), "patch.1.weight": (D, H)}
        check_sizes(where, sizes(config, len(target), where) | expected, parameters)
        return cls(config, features, target, generator=0)


class Images:
    """Batches of images (S, P) and captions (ids without an end) of about one length, for a ``Trainer``: as
    ``seq2seq.pairs.Pairs``, of which it has the order."""

    def __init__(self, images: Sequence[np.ndarray], captions: Sequence[Any], batch: int, seed: int, *, end: int):
        numbers = [np.full(len(image), i, np.int32) for i, image in enumerate(images)]  # pairs of an image's number
        self.images, self.pairs = images, Pairs(numbers, captions, batch, seed, end=end)
        self.per_epoch = self.pairs.per_epoch

    def __call__(self, step: int) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        (_, lengths, target), fresh = self.pairs(step)
        source, _ = side_by_side([self.images[i] for i in self.pairs.chosen], np.float32)
        return (source, lengths, target), fresh
