"""Three files in the format of the Penn Treebank corpus (Mikolov's) from a folder of plain texts.

``python -m tests.benchmarks.novels FOLDER OUT`` writes train.txt, valid.txt and test.txt of 930,000, 74,000 and 82,000
words: lower case, no punctuation, N for numbers, a sentence a line, all but the 10,000 most frequent words ``<unk>``.
Blocks of 50 sentences go to one of the three by chance, of a fixed seed.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

SIZES = {"train": 930_000, "valid": 74_000, "test": 82_000}
VOCABULARY = 10_000  # with <unk> and <eos>
BLOCK = 50


def sentences(text: str) -> list[list[str]]:
    """Words of each sentence.

    >>> sentences("It was 1848. “Don't go,” he said!")
    [['it', 'was', 'N'], ["don't", 'go', 'he', 'said']]
    """
    plain = re.sub(r"\b(mr|mrs|dr|st)\.", r"\1", text.replace("\u2019", "'").lower())
    found = (re.findall(r"[a-z]+(?:'[a-z]+)*|\d+", part) for part in re.split(r"[.!?]+", plain))
    return [["N" if word.isdigit() else word for word in words] for words in found if words]


def split(folder: Path) -> dict[str, list[list[str]]]:
    every = [s for path in sorted(folder.glob("*_*.txt")) for s in sentences(path.read_text("utf-8-sig"))]
    blocks = [every[i : i + BLOCK] for i in range(0, len(every), BLOCK)]
    order = iter(np.random.default_rng(0).permutation(len(blocks)))
    parts: dict[str, list[list[str]]] = {}
    for name, size in SIZES.items():
        part: list[list[str]] = []
        while sum(len(s) + 1 for s in part) < size:  # with an <eos> each
            part += blocks[next(order)]
        parts[name] = part
    return parts


def write(folder: Path, out: Path) -> None:
    parts = split(folder)
    counts = Counter(word for s in parts["train"] for word in s)
    known = {word for word, _ in counts.most_common(VOCABULARY - 2)}
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        lines = (" ".join(word if word in known else "<unk>" for word in s) for s in part)
        text = "".join(f" {line} \n" for line in lines)
        (out / f"{name}.txt").write_text(text)
        unknown = text.count("<unk>") / (text.count(" ") - len(part))
        print(f"{name}: {sum(len(s) + 1 for s in part):,} words with ends, {unknown:.1%} unknown")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
