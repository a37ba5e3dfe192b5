"""Floor 7: vocabularies: symbols of a text, characters or words, as the integers 0 .. V-1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.models import joiners
from minigrad.models.settings import Settings, choice, flag, whole
from minigrad.models.subwords import END, UNKNOWN, SubwordVocabulary

# ---------------------------------------------------------------- what a word is

TITLES = ("Mr", "Mrs", "Ms", "Dr", "St", "Mme", "Messrs")  # the point behind them belongs to the word
SPACES = "".join(c for c in map(chr, range(0x3001)) if c.isspace())
_NO_TITLE = "".join(rf"(?<!\b{title}\.)" for title in TITLES)
_QUOTE = r"""["'\u201d\u2019)\]]"""  # those that close
_PROSE = re.compile(
    rf"(?i:{'|'.join(TITLES)})\.(?=\s)"
    r"|\d+(?:[.,]\d+)+"
    r"|[^\W_]+(?:['\u2019-][^\W_]+)*"
    # the first of several spaces, as the end of a sentence
    rf"|(?<=[.!?])(?i:{_NO_TITLE})\s"
    rf"|(?:(?<=[.!?]{_QUOTE})|(?<=[.!?]{_QUOTE}{_QUOTE}))\s"
    r"|(?<=\S)(?=[^\S\n]*\n[^\S\n]*\n)\s"
    r"|\S"
)

TOKENISERS: dict[str, Callable[[str], list[str]]] = {
    "words": _PROSE.findall,
    "spaces": lambda text: text.replace("\n", f" {END} ").split(),
    "lines": joiners.tokenise,
}
OF_TEXTS = ("words", "spaces")  # those that put in where a sentence ends


def whole_words(blocks: Iterable[str]) -> Iterator[str]:
    """The same text in blocks that end where a word begins, so that the words of each are those of the whole.

    >>> list(whole_words(["to be o", "r", " not", " to be"]))
    ['to be ', 'or ', 'not to ', 'be']
    """
    rest: list[str] = []
    for block in blocks:
        if found := _LAST_START.match(block):
            yield "".join(rest) + block[: found.end()]
            rest = [block[found.end() :]]
        else:
            rest.append(block)
    if any(rest):
        yield "".join(rest)


_LAST_START = re.compile(r".*\s(?=\S)", re.DOTALL)


def _codes(text: str) -> np.ndarray:
    """Code points (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _halves(text: str) -> bool:
    """Whether there are surrogates, which no UTF-8 holds."""
    return any("\ud800" <= c <= "\udfff" for c in text)


# ---------------------------------------------------------------- vocabularies


class CharVocabulary:
    """Characters in the order of their code points; behind them ``<UNK>``, if asked for.

    Without ``<UNK>`` a character that is not in the vocabulary is an error.

    >>> v = CharVocabulary.of("hello")
    >>> v.encode("hole").tolist(), v.decode([1, 0])
    ([1, 3, 2, 0], 'he')
    >>> v = CharVocabulary.of("hello", minimum=2)
    >>> v.encode("hello").tolist(), [v.token(i) for i in range(len(v))]
    ([1, 1, 0, 0, 1], ['l', '<UNK>'])
    """

    kind, unit = "characters", "character"

    def __init__(self, symbols: str, unknown: bool = False):
        self.symbols = "".join(sorted(set(symbols)))
        self.unknown = len(self.symbols) if unknown else None
        codes = _codes(self.symbols)  # (V,), rising
        self._ids = np.full(int(codes[-1]) + 2 if len(codes) else 1, -1, np.int32)  # of a code point; last: all others
        self._ids[codes] = np.arange(len(codes))

    @classmethod
    def of(cls, text: str, minimum: int = 1) -> CharVocabulary:
        """All characters of a text; with a ``minimum`` above 1 those that occur as often, and ``<UNK>``."""
        return cls.build([text], minimum)

    @classmethod
    def of_lines(cls, lines: Iterable[str], minimum: int = 1) -> CharVocabulary:
        """That of lines without their ends: the line end is ``end``, and characters never seen are ``<UNK>``.

        >>> v = CharVocabulary.of_lines(["ab", "b"])
        >>> v.encode("abc").tolist(), v.end, v.unknown
        ([1, 2, 3], 0, 3)
        """
        return cls(cls.build(lines, minimum).symbols + "\n", unknown=True)

    @classmethod
    def build(cls, blocks: Iterable[str], minimum: int = 1) -> CharVocabulary:
        """The same as ``of``, of a text that is read block by block."""
        counts = np.zeros(0x110000, np.int64)  # of each code point
        for block in blocks:
            found = np.bincount(_codes(block))
            counts[: len(found)] += found
        symbols = "".join(map(chr, np.flatnonzero(counts >= max(minimum, 1))))
        if minimum > 1 and not symbols:
            raise UserError(describe("vocabulary", f"no character that occurs {minimum:,} times", "one at least"))
        return cls(symbols, unknown=minimum > 1)

    def __len__(self) -> int:
        return len(self.symbols) + (self.unknown is not None)

    @property
    def start(self) -> int:
        """What stands before the first character of a text: a line end, if there is one."""
        return max(self.symbols.find("\n"), 0)

    @property
    def end(self) -> int | None:
        """What ends a sentence: a line end, if there is one."""
        return self.start if "\n" in self.symbols else None

    def pieces(self, blocks: Iterable[str]) -> Iterable[str]:
        """Blocks that may be encoded one by one."""
        return blocks

    def split(self, text: str) -> list[str]:
        """What ``encode`` makes a number of each."""
        return list(text)

    def encode(self, text: str, where: str = "text", before: int = 0) -> np.ndarray:
        """Integers (len(text),); UserError naming the first character that is not in the vocabulary.

        ``before``: how many characters stand before ``text``, for that message.
        """
        ids = self._ids[np.minimum(_codes(text), len(self._ids) - 1)]
        missing = ids < 0
        if self.unknown is not None:
            ids[missing] = self.unknown
        elif missing.any():
            at = int(missing.argmax())
            got = f"the character {text[at]!r} (U+{ord(text[at]):04X}) at position {before + at}"
            expected = f"one of the {len(self)} characters that the model was trained on"
            raise UserError(describe(where, got, expected, "training with --min-count 2 reads all others as <UNK>"))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text; ``<UNK>`` is shown as U+FFFD, the replacement character."""
        return "".join(self.symbols[i] if i != self.unknown else "\ufffd" for i in ids)

    def join(self, tokens: Iterable[str]) -> str:
        """The text of what ``split`` or ``token`` gave."""
        return "".join(tokens)

    def token(self, i: int) -> str:
        return UNKNOWN if i == self.unknown else self.symbols[i]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": self.symbols, "unknown": self.unknown is not None}

    @classmethod
    def from_json(cls, where: str, values: dict[str, Any]) -> CharVocabulary:
        symbols, unknown = values.get("symbols"), values.get("unknown", False)
        good = isinstance(symbols, str) and type(unknown) is bool and len(symbols) + unknown >= 2
        if not good or any(a >= b for a, b in zip(symbols, symbols[1:])):
            raise UserError(describe(where, "a damaged vocabulary", "two or more characters in rising order"))
        if _halves(symbols):
            raise UserError(describe(where, "a vocabulary with half characters (surrogates)", "characters"))
        return cls(symbols, unknown)


class WordVocabulary:
    """Words, the most frequent first, behind ``<UNK>`` (0), any other word, and ``<EOS>`` (1), the end of a sentence.

    tokens:  what a word is.
             "spaces": what stands between spaces. Each line end is ``<EOS>``: one sentence a line. ``<unk>`` in the
             text is ``<UNK>``. So files in the form of the Penn Treebank are read.
             "words": for prose. Letters and digits with inner apostrophes and hyphens, numbers with inner points and
             commas, and each punctuation mark by itself. Line ends are wrapping. A sentence ends behind ``. ! ?`` and
             their closing quotes or brackets before a space (but not in ``Mr.`` and the like), and at an empty line.
             "lines": for one line at a time, which ``decode`` gives back. Letters and digits, and each mark by itself,
             with a joiner, U+FFED, where there is no space. No ends of sentences.
    lower:   whether capital letters are read as small ones

    >>> v = WordVocabulary.of('"Stop, Mr. Fox!" The fox\\nstopped.\\n', lower=True)
    >>> v.decode(v.encode('The fox\\nstopped. Mr. Fox, stop! '))
    'the fox stopped .\\nmr. fox , stop !\\n'
    >>> v = WordVocabulary.of("the cat\\nthe dog\\n", size=4, tokens="spaces")
    >>> v.encode("the dog\\n").tolist(), [v.token(i) for i in range(len(v))]
    ([2, 0, 1], ['<UNK>', '<EOS>', 'the', 'cat'])
    """

    kind, unit = "words", "word"
    unknown = 0
    start = end = 1

    def __init__(self, words: Iterable[str], tokens: str = "words", lower: bool = False):
        self.words, self.tokens, self.lower = (UNKNOWN, END, *words), tokens, lower
        others = {"<unk>": self.unknown, "<eos>": self.end, **dict.fromkeys(SPACES, self.end)}
        self._ids = {word: i for i, word in enumerate(self.words)} | others
        self._get = self._ids.get

    @classmethod
    def of(cls, text: str, size: int = 10_000, minimum: int = 1, tokens: str = "words", lower: bool = False):
        """The most frequent words of a text, ``size`` symbols at most with ``<UNK>`` and ``<EOS>``, those that occur
        ``minimum`` times at least; of equally frequent ones the first in the order of code points."""
        return cls.build([text], size, minimum, tokens, lower)

    @classmethod
    def build(cls, blocks: Iterable[str], size: int = 10_000, minimum: int = 1, tokens: str = "words",
              lower: bool = False) -> WordVocabulary:  # fmt: skip
        """The same of a text that is read block by block."""
        counts: Counter[str] = Counter()
        for piece in whole_words(blocks):
            counts.update(TOKENISERS[tokens](piece.lower() if lower else piece))
        for special in (UNKNOWN, END, "<unk>", "<eos>", *SPACES):
            counts.pop(special, None)
        frequent = sorted((-n, word) for word, n in counts.items() if n >= minimum)[: max(size - 2, 0)]
        if not frequent:
            got = f"{len(counts):,} words, and none that occurs {minimum:,} times" if counts else "no words"
            do = "use a smaller --min-count" if counts else ""
            raise UserError(describe("vocabulary", got, "one word at least beside <UNK> and <EOS>", do))
        return cls((word for _, word in frequent), tokens, lower)

    def __len__(self) -> int:
        return len(self.words)

    def pieces(self, blocks: Iterable[str]) -> Iterable[str]:
        """Blocks that may be encoded one by one."""
        return whole_words(blocks)

    def split(self, text: str) -> list[str]:
        """What ``encode`` makes a number of each: words, marks and ends of sentences."""
        return TOKENISERS[self.tokens](text.lower() if self.lower else text)

    def encode(self, text: str, where: str = "text", before: int = 0) -> np.ndarray:
        """Integers (n,) of the n words and ends of sentences. A text that ends without one gets none."""
        tokens = self.split(text)
        return np.fromiter(map(self._get, tokens, repeat(self.unknown)), np.int32, len(tokens))

    def decode(self, ids: Iterable[int]) -> str:
        """Words with spaces between them, and a line end for each ``<EOS>``; of "lines" the line as it was."""
        return self.join(self.words[i] for i in ids)

    def join(self, tokens: Iterable[str]) -> str:
        """The text of what ``split`` or ``token`` gave."""
        tokens = ("\n" if t == END else t for t in tokens)
        text = joiners.detokenise(tokens) if self.tokens == "lines" else " ".join(tokens)
        return text.replace("\n ", "\n").replace(" \n", "\n")

    def token(self, i: int) -> str:
        return self.words[i]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": self.tokens, "lower": self.lower, "words": list(self.words[2:])}

    @classmethod
    def from_json(cls, where: str, values: dict[str, Any]) -> WordVocabulary:
        words, tokens, lower = (values.get(name) for name in ("words", "tokens", "lower"))
        if not isinstance(words, list) or not all(type(word) is str for word in words) or not words:
            raise UserError(describe(where, "a damaged vocabulary", "a list of words"))
        if type(lower) is not bool or not isinstance(tokens, str) or tokens not in TOKENISERS:
            raise UserError(describe(where, "a damaged vocabulary", f"tokens of {' or '.join(TOKENISERS)}, and lower"))
        if " ".join(words).split() != words or _halves("".join(words)):
            raise UserError(describe(where, "a vocabulary with empty, spaced or half words", "words"))
        vocabulary = cls(words, tokens, lower)
        if len({*words, UNKNOWN, END, "<unk>", "<eos>"}) != len(words) + 4:
            raise UserError(describe(where, "a vocabulary with a word twice", "each word once"))
        return vocabulary


Vocabulary = CharVocabulary | WordVocabulary | SubwordVocabulary


@dataclass(frozen=True)
class VocabularyConfig(Settings):
    """What a vocabulary is made of.

    >>> len(VocabularyConfig(level="word", tokens="spaces").build(["to be or ", "not to be"]))
    6
    """

    level: str = choice("char", ("char", "word"), "what the model reads and writes one by one")
    vocab_size: int | None = whole(None, 3, 10**9, "words, <UNK> and <EOS> that are told apart  [default: 10,000]")
    min_count: int = whole(1, 1, 10**9, "how often a word or character must occur, rarer ones becoming <UNK>")
    tokens: str = choice("words", OF_TEXTS, "words of prose, or what stands between spaces, a sentence a line")
    lower: bool = flag("read capital letters of words as small ones")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level == "char":
            wrong = {"vocab_size": self.vocab_size, "tokens spaces": self.tokens == "spaces", "lower": self.lower}
            if given := [f"--{name.replace('_', '-')}" for name, value in wrong.items() if value]:
                raise UserError(describe("level", f"{given[0]} with characters", "words", "add --level word"))

    @property
    def unit(self) -> str:
        return "word" if self.level == "word" else "character"

    def build(self, blocks: Iterable[str]) -> Vocabulary:
        """That of a text."""
        if self.level == "char":
            return CharVocabulary.build(blocks, self.min_count)
        return WordVocabulary.build(blocks, self.vocab_size or 10_000, self.min_count, self.tokens, self.lower)


@dataclass(frozen=True)
class LineVocabularyConfig(Settings):
    """What a vocabulary of lines is made of, one for each side of pairs.

    >>> v = LineVocabularyConfig().build(["Go on!", "Go."])
    >>> v.split("Go!"), v.decode(v.encode("Go on."))
    (['Go', '￭!'], 'Go on.')
    """

    level: str = choice("word", ("char", "word", "subword"), "what the model reads and writes one by one")
    vocab_size: int | None = whole(None, 3, 10**9, "words or subwords that are told apart  [default: 10,000]")
    min_count: int = whole(1, 1, 10**9, "how often a word (of subwords: a character) must occur, rarer being <UNK>")
    lower: bool = flag("read capital letters as small ones")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level == "char" and (self.vocab_size or self.lower):
            given = "--vocab-size" if self.vocab_size else "--lower"
            raise UserError(describe("level", f"{given} with characters", "words or subwords", "leave it out"))

    @property
    def unit(self) -> str:
        return "character" if self.level == "char" else self.level

    def build(self, lines: Iterable[str]) -> Vocabulary:
        """That of lines without their ends."""
        if self.level == "char":
            return CharVocabulary.of_lines(lines, self.min_count)
        size = self.vocab_size or 10_000
        if self.level == "subword":
            return SubwordVocabulary.build(lines, size, minimum=self.min_count, lower=self.lower)
        # each a block of its own: a block may end within a word
        return WordVocabulary.build((f"{line}\n" for line in lines), size, self.min_count, "lines", self.lower)


def vocabulary_from_json(where: str, values: Any) -> Vocabulary:
    """The vocabulary that ``to_json`` gave; UserError if a file holds anything else.

    >>> vocabulary_from_json("here", WordVocabulary(["to", "be"], "spaces").to_json()).encode("to be").tolist()
    [2, 3]
    """
    kind = values.get("kind") if isinstance(values, dict) else None
    for known in (CharVocabulary, WordVocabulary, SubwordVocabulary):
        if kind == known.kind:
            return known.from_json(where, values)
    raise UserError(describe(where, "a damaged vocabulary", "one of characters, words or subwords"))
