"""Transfer, the three steps of a text-book: learn vectors of words from a large text without labels, begin a model of a
small task with them, and, if it helps, go on to learn them there (fine-tuning). What does it bring?

    python -m tests.benchmarks.bench_transfer TEXT OUT      1. TEXT and the training texts of both tasks, as one corpus
    minigrad embed train OUT --tokens spaces --objective fasttext --out VECTORS
    python -m tests.benchmarks transfer                     2. and 3.

TRANSFER_DATA is a folder with uci_sentiment (sentences of three sites, 0 or 1: is it praise?) and wnut17 (tweets with
the names of people, places and so on marked); VECTORS is a file of vectors. SEEDS, TASKS (as ``names``) and STARTS
(as ``frozen``) may be set.

random:      the same model with the same words; their numbers are drawn
random+UNK:  as one does without vectors: words that occur once, or only elsewhere, share the row <UNK>
frozen:      the numbers are the vectors, and stay
fine-tuned:  they learn

Of each task and start the learning rate is chosen by the validation part with the first seed, and in each run the epoch
whose parameters are kept. What the test part gives decides nothing.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigrad import nn, ops
from minigrad.engine import Tensor, no_grad
from minigrad.errors import UserError, describe
from minigrad.models.batches import Buckets
from minigrad.models.embed.formats import read_vectors
from minigrad.models.embed.vectors import WordVectors
from minigrad.models.recipe import Recipe
from minigrad.models.text import read_text
from minigrad.models.training import Trainer
from minigrad.models.vocabulary import END, TOKENISERS, WordVocabulary
from minigrad.nn.module import Seed, as_generator

Sentence = tuple[list[str], Any]  # words, and their tags or a label
STARTS = ("random", "random+UNK", "frozen", "fine-tuned")
RATES = (2e-3, 5e-3)
EPOCHS = 12

# ---------------------------------------------------------------- data


def read_sentences(path: Path) -> Iterator[Sentence]:
    """Lines ``sentence<TAB>label``, the label a whole number."""
    for n, line in enumerate(read_text(path).content.split("\n"), 1):
        text, tab, label = line.rpartition("\t")
        if line and not (tab and text.strip() and label.strip().isdecimal()):
            raise UserError(describe(f"sentences {path}", f"line {n:,}: {line[:60]!r}", "sentence<TAB>0 or 1, 2 .."))
        if line:
            yield [word for word in TOKENISERS["words"](text) if not word.isspace()], int(label)


def read_columns(path: Path) -> Iterator[Sentence]:
    """CoNLL's columns: ``word<TAB>tag``, O, B-kind or I-kind, and an empty line behind each sentence."""
    words: list[str] = []
    tags: list[str] = []
    for n, line in enumerate([*read_text(path).content.split("\n"), ""], 1):
        if line.strip():
            parts = line.split("\t")
            if len(parts) < 2 or not parts[0] or not re.fullmatch(r"O|[BI]-\S+", parts[-1]):
                got = f"line {n:,}: {line[:60]!r}"
                raise UserError(describe(f"columns {path}", got, "word<TAB>tag, the tag O, B-kind or I-kind"))
            words.append(parts[0])
            tags.append(parts[-1])
        elif words:
            yield words, tags
            words, tags = [], []


def normal(word: str) -> str:
    """How a word is looked up: in small letters, all users as one and all addresses as one."""
    return re.sub(r"(?s)^@.+", "@user", re.sub(r"(?s)^(https?:|www\.).*", "http", "".join(word.lower().split())))


def marks(word: str) -> list[float]:
    """What small letters lose: a capital first, capitals only, a digit."""
    return [word[:1].isupper(), word.isupper() and len(word) > 1, any(map(str.isdigit, word))]


class Task(NamedTuple):
    """Sentences to learn from, to validate with and to test; whether each word has a tag, or the sentence a label."""

    train: list[Sentence]
    validation: list[Sentence]
    test: list[Sentence]
    tagged: bool


def sentiment(folder: Path) -> Task:
    """A third of the sentences tests, a fifth of the others validates, by a hash of each."""
    parts: list[list[Sentence]] = [[], [], []]
    for path in sorted((folder / "uci_sentiment").glob("*_labelled.txt")):
        for words, label in read_sentences(path):
            hash = zlib.crc32(" ".join(words).encode())
            parts[2 if hash % 3 == 0 else hash // 3 % 5 == 0].append((words, label))
    return Task(*parts, tagged=False)


def few(folder: Path) -> Task:
    """The same with 300 sentences to learn from."""
    task = sentiment(folder)
    drawn = np.random.default_rng(0).permutation(len(task.train))[:300]
    return task._replace(train=[task.train[i] for i in drawn])


def names(folder: Path) -> Task:
    files = ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated")
    return Task(*(list(read_columns(folder / "wnut17" / file)) for file in files), tagged=True)


TASKS: dict[str, Callable[[Path], Task]] = {"few": few, "sentiment": sentiment, "names": names}


def write_corpus(folder: Path, text: str, out: str) -> None:
    """A sentence a line: of the text, and of the training parts of the tasks, whose labels are not read."""
    with open(out, "w", encoding="utf-8") as file:
        words = TOKENISERS["words"](read_text(text).content)
        file.write("".join("\n" if word.isspace() else f"{normal(word)} " for word in words) + "\n")
        for read in TASKS.values():
            file.writelines(" ".join(map(normal, words)) + "\n" for words, _ in read(folder).train)


class Labelled(Buckets):
    """Batches of words (T, B), their marks (T, B, 3), lengths (B,) and labels: (B,), or (T, B) of tags; -100: none."""

    def __init__(self, part: list[Sentence], vocabulary: WordVocabulary, labels: list, batch: int = 32, seed: int = 0):
        every = [word for words, _ in part for word in words]
        super().__init__(np.arange(len(every)), np.cumsum([0] + [len(words) for words, _ in part]), batch, seed)
        number = {word: i for i, word in enumerate(vocabulary.words)}
        code = {label: i for i, label in enumerate(labels)}
        self.words = np.array([number.get(normal(word), vocabulary.unknown) for word in every])
        self.marks = np.array([marks(word) for word in every], np.float32)
        self.tagged = isinstance(part[0][1], list)
        self.labels = np.array([code[tag] for _, own in part for tag in (own if self.tagged else [own])])

    def places(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a batch: the number of each word (T, B), lengths (B,), and which have a label, (T, B) or (B,)."""
        (at, lengths), _ = super().__call__(step)
        return at, lengths, np.arange(len(at))[:, None] < lengths if self.tagged else lengths > 0

    def __call__(self, step: int) -> tuple[tuple[Any, ...], np.ndarray]:
        at, lengths, known = self.places(step)
        labels = np.full(known.shape, -100)
        labels[known] = self.labels[at[known] if self.tagged else self.chosen]
        return (self.words[at], self.marks[at], lengths, labels), np.ones(len(lengths), bool)


# ---------------------------------------------------------------- the model


class Reader(nn.Module):
    """Any embedding (V, D), an LSTM of H units in both directions, and a linear layer, for K classes.

    e_t = [E[x_t], marks_t],  h_t = LSTM(e)_t;  logits of each word W h_t + b, or of the sentence W max_t h_t + b
    """

    def __init__(self, embedding: nn.Embedding, classes: int, tagged: bool, hidden: int = 64, dropout: float = 0.5,
                 generator: Seed = None):  # fmt: skip
        self.generator = rng = as_generator(generator)
        self.embedding, self.tagged = embedding, tagged
        self.dropout = nn.Dropout(dropout, generator=rng)
        self.lstm = nn.LSTM(embedding.weight.shape[1] + 3, hidden, bidirectional=True, generator=rng)
        self.output = nn.Linear(2 * hidden, classes, generator=rng)

    def forward(self, words: np.ndarray, marks: np.ndarray, lengths: np.ndarray) -> Tensor:
        """(T, B, K), or (B, K)."""
        e = ops.concat([self.dropout(self.embedding(words)), marks], axis=-1)  # (T, B, D + 3)
        h, _ = self.lstm(e, lengths=lengths)  # (T, B, 2 H)
        if not self.tagged:
            there = np.arange(len(words))[:, None, None] < lengths[:, None]  # (T, B, 1)
            h = ops.max(ops.where(Tensor(there), h, -1.0), axis=0)  # no h is smaller
        return self.output(self.dropout(h))

    def loss(self, words: np.ndarray, marks: np.ndarray, lengths: np.ndarray, labels: np.ndarray,
             carry: Any = ()) -> tuple[Tensor, Any]:  # fmt: skip
        return ops.cross_entropy(self(words, marks, lengths), labels), carry

    def reset(self, carry: Any, fresh: np.ndarray) -> Any:
        return carry

    def predict(self, data: Labelled) -> np.ndarray:
        """A class for each label of ``data``, in its order."""
        found = np.empty_like(data.labels)
        self.eval()
        with no_grad():
            for step in range(data.per_epoch):
                at, lengths, known = data.places(step)
                best = self(data.words[at], data.marks[at], lengths).numpy().argmax(-1)
                found[at[known] if self.tagged else data.chosen] = best[known]
        self.train()
        return found


# ---------------------------------------------------------------- scores


def spans(tags: list[str], edges: np.ndarray) -> set[tuple[int, int, str]]:
    """First word, end and kind of each entity; as in conlleval, one begins at B, at a new kind and with a sentence.

    >>> sorted(spans(["B-a", "I-a", "B-a", "O", "I-b", "I-b"], np.array([0, 5, 6])))
    [(0, 2, 'a'), (2, 3, 'a'), (4, 5, 'b'), (5, 6, 'b')]
    """
    found, starts, first, kind = set(), set(edges.tolist()), 0, ""
    for i, tag in enumerate([*tags, "O"]):
        goes_on = tag[0] == "I" and tag[2:] == kind and i not in starts
        if kind and not goes_on:
            found.add((first, i, kind))
        if not goes_on:
            first, kind = i, tag[2:]
    return found


def scores(data: Labelled, predicted: np.ndarray, labels: list) -> dict[str, float]:
    """In per cent: accuracy, and of tags F1 of whole entities."""
    accuracy = 100 * float((predicted == data.labels).mean())
    if not data.tagged:
        return {"accuracy": accuracy}
    edges = np.append(data.starts, len(data.words))
    true, own = (spans([labels[i] for i in ids], edges) for ids in (data.labels, predicted))
    return {"F1": 200 * len(true & own) / max(len(true) + len(own), 1), "accuracy": accuracy}


# ---------------------------------------------------------------- transfer


def learn(task: Task, vectors: WordVectors, start: str, lr: float, seed: int) -> tuple[float, dict[str, float], str]:
    """The best score on the validation part, those on the test part then, and how many words had a vector."""
    counts = Counter(normal(word) for words, _ in task.train for word in words)
    others = {normal(word) for part in (task.validation, task.test) for words, _ in part for word in words}
    if start == "random+UNK":
        known = {word for word, n in counts.items() if n > 1}
    else:
        known = {*counts, *(w for w in others if w in vectors or vectors.subwords)}
    vocabulary = WordVocabulary(sorted(known - {"<unk>", END}), "spaces")
    if start.startswith("random"):
        layer, found = nn.Embedding(len(vocabulary), vectors.dim, scale=0.1, generator=seed), "none"
    else:
        layer, found = vectors.embedding(vocabulary, freeze=start == "frozen", generator=seed)
    every = [label for part in task[:3] for _, own in part for label in (own if task.tagged else [own])]
    labels = sorted(set(every), key=lambda label: (label != "O", label))
    train, validation = (Labelled(part, vocabulary, labels, seed=seed) for part in (task.train, task.validation))
    model = Reader(layer, len(labels), task.tagged, generator=seed)
    recipe = Recipe(batch=32, lr=lr, schedule="hold", hold=EPOCHS, epochs=EPOCHS, patience=EPOCHS, seed=seed)
    trainer, best = Trainer(model, train, (), recipe), 0.0
    for step in trainer:
        if step.number % train.per_epoch == 0:
            score = next(iter(scores(validation, model.predict(validation), labels).values()))
            trainer.validated(-score)
            best = max(best, score)
    trainer.finish()
    test = Labelled(task.test, vocabulary, labels)
    return best, scores(test, model.predict(test), labels), str(found)


def measured(task: Task, vectors: WordVectors, start: str, seeds: int) -> tuple[float, list[dict[str, float]]]:
    """The learning rate that validates best, and the scores on the test part of every seed with it."""
    first = {lr: learn(task, vectors, start, lr, 1) for lr in RATES}
    lr = max(RATES, key=lambda lr: first[lr][0])
    runs = [first[lr]] + [learn(task, vectors, start, lr, seed) for seed in range(2, seeds + 1)]
    print(
        f"    {start}: validation {statistics.mean(best for best, *_ in runs):.2f}, words: {runs[0][2][:100]}",
        flush=True,
    )
    return lr, [score for _, score, _ in runs]


def main() -> None:
    if not (os.environ.get("TRANSFER_DATA") and os.environ.get("VECTORS")):
        print("set TRANSFER_DATA to the folder of uci_sentiment and wnut17, and VECTORS to a file of vectors")
        return
    vectors = read_vectors(os.environ["VECTORS"])
    for name in os.environ.get("TASKS", ",".join(TASKS)).split(","):
        task = TASKS[name](Path(os.environ["TRANSFER_DATA"]))
        print(f"{name}: {len(task.train):,} sentences to learn from, {len(task.validation):,} to validate, "
              f"{len(task.test):,} to test", flush=True)  # fmt: skip
        for start in os.environ.get("STARTS", ",".join(STARTS)).split(","):
            lr, found = measured(task, vectors, start, int(os.environ.get("SEEDS", 5)))
            for score in found[0]:
                values = [run[score] for run in found]
                sd = statistics.stdev(values) if len(values) > 1 else 0
                spread = f"{min(values):5.2f} to {max(values):5.2f}, sd {sd:4.2f}"
                print(f"{name:10} {start:10} lr {lr:g}  {score:8} {np.mean(values):5.2f}  {spread}", flush=True)


if __name__ == "__main__":
    write_corpus(Path(os.environ["TRANSFER_DATA"]), sys.argv[1], sys.argv[2])
