"""Skip-gram and CBOW beside gensim: same sentences, vocabulary and settings, each side in a process of its own.

``python -m tests.benchmarks embed`` reads EMBED_TEXT, a text with a sentence a line and spaces between the words
(without it: words drawn by Zipf's law), and takes EPOCHS, SEEDS, THREADS (as ``1,2``), OBJECTIVES (as ``sgns,cbow``),
ANALOGIES (a file of the questions-words format) and SIMILARITY (word, word, score). The vectors of both sides are
measured by the same code: the loss on the last 2 % of the sentences with the same drawn words, analogies, Spearman.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.harness import Worker, installed

SETTINGS = {"dim": 100, "window": 5, "sample": 1e-3}
RATES = {"sgns": 0.025, "cbow": 0.05}  # at first; word2vec's
HELD_OUT = 0.02


def zipf(path: Path, words: int, classes: int = 100_000) -> None:
    """A text of words drawn with p(w) ~ 1/(w + 2.7), 20 in a sentence."""
    p = 1 / (np.arange(classes) + 2.7)
    edges = np.cumsum(p / p.sum())
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(words // 200_000):
            drawn = edges.searchsorted(rng.random(200_000)).clip(max=classes - 1)
            file.writelines(" ".join(map(str, row)) + "\n" for row in drawn.reshape(-1, 20).tolist())


class Minigrad:
    """``embed train``, without its file."""

    def __init__(self, path: str):
        from minigrad.models.embed.words import words_of
        from minigrad.models.text import read_text

        self.words = words_of(read_text(path), 5, None, "spaces")

    def train(self, objective: str, epochs: int, threads: int, seed: int) -> tuple[int, float]:
        from minigrad.models.embed.objectives import CBOW, SkipGram
        from minigrad.models.embed.words import WordTraining

        kind = {"sgns": SkipGram, "cbow": CBOW}[objective]
        self.training = WordTraining(
            self.words, kind, epochs=epochs, lr=RATES[objective], threads=threads, seed=seed, **SETTINGS
        )
        next(iter(WordTraining(self.words, kind, epochs=1, threads=threads, **SETTINGS)))  # compiles
        began = time.perf_counter()
        for _ in self.training:
            pass
        return epochs * int(np.count_nonzero(self.words.tokens > 1)), time.perf_counter() - began

    def arrays(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        return list(self.words.words), self.training.arrays["W"], self.training.arrays["C"]


class Gensim:
    """The same as a user of gensim writes it, with the sentences in memory."""

    def __init__(self, path: str):
        self.sentences = [line.split() for line in Path(path).read_text().splitlines()]

    def train(self, objective: str, epochs: int, threads: int, seed: int) -> tuple[int, float]:
        from gensim.models import Word2Vec

        self.model = Word2Vec(
            vector_size=SETTINGS["dim"], window=SETTINGS["window"], sample=SETTINGS["sample"], negative=5, min_count=5,
            sg=objective == "sgns", alpha=RATES[objective], workers=threads, epochs=epochs, seed=seed,
        )  # fmt: skip
        self.model.build_vocab(self.sentences)
        began = time.perf_counter()
        self.model.train(self.sentences, total_examples=len(self.sentences), epochs=epochs)
        seconds = time.perf_counter() - began
        known = self.model.wv.key_to_index
        return epochs * sum(word in known for s in self.sentences for word in s), seconds

    def arrays(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        return self.model.wv.index_to_key, self.model.wv.vectors, self.model.syn1neg


def serve() -> None:
    """Requests: {"path"}, {"train": {...}}, {"save": path}."""
    side: Any = None
    for line in sys.stdin:
        request, answer = json.loads(line), None
        if "path" in request:
            side = {"minigrad": Minigrad, "gensim": Gensim}[os.environ["SIDE"]](**request)
        elif "train" in request:
            answer = side.train(**request["train"])
        else:
            words, W, C = side.arrays()
            np.savez(request["save"], words=np.array(words), W=W, C=C)
        print(json.dumps(answer), flush=True)


def quality(path: str, held_out: Path, objective: str) -> dict[str, float]:
    """Loss a pair on held-out text with 5 drawn words, analogies and Spearman, of the vectors in a file."""
    from minigrad.models.embed.blocks import Drawing
    from minigrad.models.embed.evaluate import analogies, read_analogies, read_pairs, similarity, totals
    from minigrad.models.embed.fused import step
    from minigrad.models.embed.objectives import CBOW, SkipGram
    from minigrad.models.embed.vectors import WordVectors
    from minigrad.models.vocabulary import WordVocabulary

    with np.load(path) as file:
        names, W, C = file["words"].tolist(), file["W"].astype(np.float32), file["C"].astype(np.float32)
    order = np.argsort(names)  # the same words for both sides in one order
    vocabulary = WordVocabulary([names[i] for i in order], "spaces")
    tokens = vocabulary.encode(held_out.read_text())
    counts = np.bincount(tokens, minlength=len(vocabulary))[2:] + 1
    drawing = Drawing(counts, together=objective == "cbow")
    blocks = drawing(tokens, seed=0, everything=True)
    loss = step({"sgns": SkipGram, "cbow": CBOW}[objective], blocks, W[order].copy(), C[order].copy(), 0.0)
    found = {"loss": loss / blocks.pairs}
    vectors = WordVectors(names, W)
    if file := os.environ.get("ANALOGIES"):
        whole = totals(analogies(vectors, read_analogies(file)))[-1]
        found |= {"analogies %": 100 * whole.accuracy, "asked": whole.asked}
    if file := os.environ.get("SIMILARITY"):
        pairs = similarity(vectors, read_pairs(file))
        found |= {"spearman": pairs.spearman, "pairs": pairs.pairs}
    return found


def main() -> None:
    if not installed("gensim"):
        print("gensim is not installed")
        return
    epochs, seeds = int(os.environ.get("EPOCHS", 5)), int(os.environ.get("SEEDS", 3))
    threads = [int(n) for n in os.environ.get("THREADS", "1,2").split(",")]
    with tempfile.TemporaryDirectory() as temp:
        text, train, held_out = (Path(temp) / f"{name}.txt" for name in ("all", "train", "held_out"))
        if source := os.environ.get("EMBED_TEXT"):
            text = Path(source)
        else:
            zipf(text, int(os.environ.get("WORDS", 17_000_000)))
        lines = text.read_text().splitlines(keepends=True)
        cut = int(len(lines) * (1 - HELD_OUT))
        train.write_text("".join(lines[:cut]))
        held_out.write_text("".join(lines[cut:]))
        sides = {name: Worker("bench_embed", SIDE=name) for name in ("minigrad", "gensim")}
        for side in sides.values():
            side.ask(path=str(train))
        for objective in os.environ.get("OBJECTIVES", "sgns,cbow").split(","):
            for P in threads:
                speeds: dict[str, list[float]] = {name: [] for name in sides}
                measured: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
                for seed in range(1, seeds + 1):
                    for name, side in sides.items():
                        words, seconds = side.ask(
                            train={"objective": objective, "epochs": epochs, "threads": P, "seed": seed}
                        )
                        speeds[name].append(words / seconds)
                        side.ask(save=f"{temp}/vectors.npz")
                        measured[name].append(quality(f"{temp}/vectors.npz", held_out, objective))
                own, other = (statistics.median(speeds[name]) for name in ("minigrad", "gensim"))
                print(f"{objective}, threads {P}: minigrad {own:,.0f} words/s, gensim {other:,.0f}, {own / other:.2f}x")
                for name in sides:
                    means = {key: statistics.mean(m[key] for m in measured[name]) for key in measured[name][0]}
                    print(f"    {name:9}" + "".join(f"  {key} {mean:.4g}" for key, mean in means.items()), flush=True)


if __name__ == "__main__":
    serve()
