"""Floor 7: subwords: frequent pieces of words, so that a small vocabulary spells any word. Needs sentencepiece."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe

UNKNOWN, END = "<UNK>", "<EOS>"
SPACE = "\u2581"  # what sentencepiece writes for a space, at the beginning of a word
NEVER = "\u2585"  # a character that sentencepiece never takes into a vocabulary
_RESERVED = re.compile(rf"[{SPACE}{NEVER}\0\ud800-\udfff]")


class SubwordVocabulary:
    """Pieces of words behind ``<UNK>`` (0), characters never seen, and ``<EOS>`` (1), the end of a line.

    The pieces are found by sentencepiece (Kudo and Richardson 2018), either by merging the most frequent neighbours,
    byte-pair encoding (Sennrich, Haddow and Birch 2016), or by dropping from a large set those that a unigram model of
    the text misses least (Kudo 2018). ``decode`` gives the line back, with one space for each run of white space.

    >>> v = SubwordVocabulary.build(["low lower lowest"] * 3, size=20)       # doctest: +SKIP
    >>> v.split("lowest slow"), v.decode(v.encode("lowest slow"))            # doctest: +SKIP
    (['▁lowest', '▁', 's', 'low'], 'lowest slow')
    """

    kind, unit = "subwords", "subword"
    unknown = 0
    start = end = 1

    def __init__(self, model: bytes, lower: bool = False):
        """model: what sentencepiece trained, with the ids above; ValueError if it is anything else."""
        self.model, self.lower = model, lower
        sentencepiece = _sentencepiece()
        if not model:  # which sentencepiece takes for none at all
            raise ValueError("an empty model")
        try:
            self._processor = p = sentencepiece.SentencePieceProcessor(model_proto=model)
            specials = [p.unk_id(), p.eos_id(), p.bos_id(), p.pad_id()]
            self._pieces = [UNKNOWN, END, *map(p.id_to_piece, range(2, p.vocab_size()))]
        except (RuntimeError, IndexError) as error:
            raise ValueError("no model of sentencepiece") from error
        if specials != [0, 1, -1, -1] or len(self._pieces) < 3:
            raise ValueError(f"the ids {specials} of special symbols")

    @classmethod
    def build(cls, lines: Iterable[str], size: int = 10_000, kind: str = "bpe", minimum: int = 1,
              lower: bool = False) -> SubwordVocabulary:  # fmt: skip
        """That of some lines: ``size`` symbols at most, fewer if the text is too small for so many.

        kind:     "bpe" or "unigram"
        minimum:  how often a character must occur; one that is rarer is ``<UNK>``
        lower:    whether capital letters are read as small ones
        """
        if kind not in ("bpe", "unigram"):
            raise UserError(describe("subwords", f"the kind {kind!r}", "bpe or unigram"))
        sentencepiece = _sentencepiece()
        lines = [" ".join(_RESERVED.sub(" ", line.lower() if lower else line).split()) for line in lines]
        counts = Counter(c for line in lines for c in line if c != " ")
        if rare := {ord(c): " " for c, n in counts.items() if n < minimum}:
            lines = [" ".join(line.translate(rare).split()) for line in lines]
        known = len(counts) - len(rare)
        if not known:
            got = f"no character that occurs {minimum:,} times" if counts else "no words"
            raise UserError(describe("vocabulary", got, "one at least"))
        if size < known + 3:
            do = "take a larger --vocab-size or --min-count"
            got = f"{known:,} different characters for {size:,} subwords"
            raise UserError(describe("vocabulary", got, f"{known + 3:,} subwords at least", do))
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=filter(None, lines), model_writer=model, model_type=kind, vocab_size=size,
            hard_vocab_limit=False, character_coverage=1.0, normalization_rule_name="identity",
            max_sentence_length=2**30, unk_id=0, eos_id=1, bos_id=-1, pad_id=-1, unk_piece=UNKNOWN, eos_piece=END,
            num_threads=1,  # the result of the unigram model depends on it
            minloglevel=2,
        )  # fmt: skip
        return cls(model.getvalue(), lower)

    def __len__(self) -> int:
        return len(self._pieces)

    def _clean(self, line: str) -> str:
        return " ".join(_RESERVED.sub(NEVER, line.lower() if self.lower else line).split())

    def split(self, line: str) -> list[str]:
        """What ``encode`` makes a number of each; a piece that begins a word begins with U+2581."""
        return self._processor.encode(self._clean(line), out_type=str)

    def encode(self, line: str, where: str = "text", before: int = 0) -> np.ndarray:
        """Integers (n,) of the n pieces; characters never seen that stand together are one ``<UNK>``."""
        return np.array(self._processor.encode(self._clean(line)), np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """The line."""
        return self.join("\n" if i == self.end else self._pieces[i] for i in ids)

    def join(self, tokens: Iterable[str]) -> str:
        """The line of what ``split`` or ``token`` gave."""
        return "".join(tokens).replace(SPACE, " ").removeprefix(" ")

    def token(self, i: int) -> str:
        return self._pieces[i]

    def to_json(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.model).hexdigest()
        return {
            "kind": self.kind,
            "lower": self.lower,
            "model": base64.b64encode(self.model).decode(),
            "sha256": digest,
        }

    @classmethod
    def from_json(cls, where: str, values: dict[str, Any]) -> SubwordVocabulary:
        text, lower, digest = (values.get(name) for name in ("model", "lower", "sha256"))
        try:
            if type(lower) is not bool or not isinstance(text, str):
                raise ValueError("other fields")
            model = base64.b64decode(text, validate=True)
            if hashlib.sha256(model).hexdigest() != digest:  # before sentencepiece, in C++, reads it
                raise ValueError("another sha256")
            return cls(model, lower)
        except UserError:  # no sentencepiece
            raise
        except ValueError as error:
            got = f"a damaged vocabulary ({error})"
            raise UserError(describe(where, got, "a model of sentencepiece with <UNK> 0 and <EOS> 1")) from None


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError:
        do = "pip install 'minigrad[subwords]'"
        raise UserError(describe("subwords", "no module 'sentencepiece'", "it installed", do)) from None
    return sentencepiece
