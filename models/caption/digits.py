"""Floor 7: strips of digits and their captions in words: handwritten ones from a file, or drawn by code."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from minigrad.errors import ShapeError, UserError, describe
from minigrad.models.text import read_text
from minigrad.nn.module import Seed, as_generator

SIDE, GREYS = 8, 16  # of an image: rows and columns, and the value of black
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def caption(labels: Sequence[int]) -> str:
    """Digits in words.

    >>> caption([3, 7, 1])
    'three seven one'
    """
    return " ".join(NAMES[label] for label in labels)


def read_optdigits(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 8, 8) float32 from 0 to 1, and labels (N,), of "Optical Recognition of Handwritten Digits" (Alpaydin
    and Kaynak 1998, UCI): 64 numbers from 0 to 16 and the digit on each line, with commas; ``#`` begins a comment.
    UserError naming the first line that is none."""
    rows = []
    for number, line in enumerate(read_text(path).content.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            row = [int(value) for value in line.split(",")]
        except ValueError:
            row = []
        if len(row) != SIDE * SIDE + 1 or not (min(row) >= 0 and max(row[:-1]) <= GREYS and row[-1] <= 9):
            got = f"line {number:,}: {line if len(line) <= 40 else line[:37] + '...'!r}"
            expected = "64 integers from 0 to 16 and a digit, with commas"
            raise UserError(describe(f"digits {path}", got, expected))
        rows.append(row)
    if not rows:
        raise UserError(describe(f"digits {path}", "no image", "lines of 65 integers"))
    values = np.array(rows)
    return values[:, :-1].reshape(-1, SIDE, SIDE).astype(np.float32) / GREYS, values[:, -1]


# ---------------------------------------------------------------- drawn by code

# the ways to write each digit: lines through points (x, y) of a square, y downwards; a digit may have several lines
_CIRCLE = [(0.5 + 0.3 * np.sin(a), 0.5 - 0.46 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 13)]
GLYPHS = (
    ([_CIRCLE],),
    ([[(0.5, 0.04), (0.5, 0.96)]], [[(0.3, 0.25), (0.52, 0.05), (0.52, 0.96)]],
     [[(0.32, 0.22), (0.52, 0.05), (0.52, 0.95)], [(0.3, 0.95), (0.75, 0.95)]]),
    ([[(0.2, 0.25), (0.3, 0.09), (0.5, 0.04), (0.7, 0.1), (0.78, 0.27), (0.65, 0.5), (0.2, 0.95), (0.84, 0.95)]],),
    ([[(0.2, 0.12), (0.45, 0.04), (0.72, 0.12), (0.74, 0.32), (0.42, 0.47)],
      [(0.42, 0.47), (0.78, 0.62), (0.78, 0.85), (0.5, 0.96), (0.2, 0.87)]],
     [[(0.2, 0.05), (0.78, 0.05), (0.45, 0.42), (0.75, 0.55), (0.8, 0.8), (0.52, 0.96), (0.2, 0.88)]]),
    ([[(0.3, 0.05), (0.16, 0.58), (0.86, 0.58)], [(0.68, 0.28), (0.63, 0.96)]],
     [[(0.64, 0.96), (0.64, 0.04), (0.14, 0.65), (0.88, 0.65)]]),
    ([[(0.8, 0.05), (0.28, 0.05), (0.24, 0.45), (0.55, 0.38), (0.79, 0.55), (0.77, 0.82), (0.5, 0.96), (0.2, 0.88)]],),
    ([[(0.68, 0.04), (0.4, 0.2), (0.25, 0.5), (0.25, 0.8), (0.48, 0.96), (0.73, 0.86), (0.76, 0.66), (0.55, 0.52),
       (0.27, 0.66)]],),
    ([[(0.18, 0.06), (0.82, 0.06), (0.42, 0.96)]],
     [[(0.18, 0.06), (0.82, 0.06), (0.42, 0.96)], [(0.3, 0.5), (0.76, 0.5)]]),
    ([[(0.5, 0.48), (0.27, 0.3), (0.3, 0.1), (0.5, 0.04), (0.7, 0.1), (0.73, 0.3), (0.5, 0.48), (0.23, 0.66),
       (0.24, 0.87), (0.5, 0.96), (0.76, 0.87), (0.77, 0.66), (0.5, 0.48)]],),
    ([[(0.74, 0.34), (0.52, 0.5), (0.28, 0.4), (0.25, 0.18), (0.48, 0.04), (0.71, 0.12), (0.75, 0.34), (0.7, 0.66),
       (0.56, 0.96)]],),
)  # fmt: skip


def drawn(count: int, seed: Seed = None) -> tuple[np.ndarray, np.ndarray]:
    """Digits drawn with a random width, height, slant, turn, place, thickness, unsteadiness, ink and noise: images
    (N, 8, 8) float32 from 0 to 1 in steps of 1/16, and labels (N,), as ``read_optdigits`` gives them.

    >>> images, labels = drawn(5, seed=0)
    >>> images.shape, labels.tolist()
    ((5, 8, 8), [8, 6, 5, 2, 3])
    """
    rng = as_generator(seed)
    labels = rng.integers(10, size=count)
    ways = (rng.random(count) * np.array([len(own) for own in GLYPHS])[labels]).astype(int)
    images = np.empty((count, SIDE, SIDE), np.float32)
    for digit, own in enumerate(GLYPHS):
        for way, lines in enumerate(own):
            at = np.flatnonzero((labels == digit) & (ways == way))
            for part in np.array_split(at, len(at) // 4096 + 1):
                images[part] = _draw(lines, len(part), rng)
    return images, labels


def _draw(lines: Sequence[Sequence[tuple[float, float]]], n: int, rng: np.random.Generator) -> np.ndarray:
    """One glyph n times, (n, 8, 8)."""
    points = np.concatenate([np.array(line) for line in lines]) - 0.5  # (P, 2)
    ends = np.cumsum([len(line) for line in lines])
    first = np.setdiff1d(np.arange(len(points)), ends - 1)  # where a segment begins, (K,)
    points = points + rng.normal(0, 0.04, (n, *points.shape))
    angle, slant = rng.normal(0, 0.1, (n, 1)), rng.normal(0.06, 0.17, (n, 1))
    wide, high = SIDE * rng.uniform(0.6, 0.95, (n, 1)), SIDE * rng.uniform(0.8, 0.97, (n, 1))
    x, y = points[..., 0] * wide, points[..., 1] * high  # (n, P)
    x, y = x * np.cos(angle) - y * (np.sin(angle) + slant), x * np.sin(angle) + y * np.cos(angle)
    points = np.stack([x, y], -1) + SIDE / 2 + rng.uniform(-0.5, 0.5, (n, 1, 2))
    centres = np.stack(np.meshgrid(*[np.arange(SIDE) + 0.5] * 2), -1).reshape(-1, 2)  # (64, 2), row by row
    a, along = points[:, first, None], (points[:, first + 1] - points[:, first])[:, :, None]  # (n, K, 1, 2)
    to = centres - a  # (n, K, 64, 2)
    share = np.clip((to * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-9), 0, 1)  # of the way to the end
    distance = np.sqrt(((to - share[..., None] * along) ** 2).sum(-1)).min(1)  # (n, 64), to the nearest segment
    ink = np.clip(rng.uniform(0.4, 0.95, (n, 1)) + 0.5 - distance, 0, 1) * rng.uniform(0.7, 1, (n, 1))
    ink += rng.normal(0, 0.08, ink.shape) * (ink > 0) + rng.normal(0, 0.02, ink.shape)
    return (np.round(np.clip(ink, 0, 1) * GREYS) / GREYS).reshape(n, SIDE, SIDE)


# ---------------------------------------------------------------- strips


def strips(images: np.ndarray, labels: np.ndarray, count: int, low: int = 1, high: int = 5, seed: Seed = None,
           gap: int = 3) -> list[tuple[np.ndarray, str]]:  # fmt: skip
    """``count`` strips of ``low`` to ``high`` images side by side, with 0 to ``gap`` empty columns between them, and
    their captions. images (N, R, C) and labels (N,); a strip is (R, its columns).

    >>> for strip, words in strips(*drawn(50, seed=0), count=2, seed=0):
    ...     print(strip.shape, words)
    (8, 48) eight six seven five two
    (8, 39) eight eight two zero
    """
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(images):
        got = f"images {images.shape} and labels {labels.shape}"
        raise ShapeError(describe("strips", got, "images (N, rows, columns) and labels (N,), at least one"))
    if not 1 <= low <= high or gap < 0:
        got = f"{low} to {high} digits, gaps of up to {gap}"
        raise UserError(describe("strips", got, "two numbers from 1 on, in order, and one from 0 on"))
    rng, found = as_generator(seed), []
    for length in rng.integers(low, high + 1, count):
        which, gaps = rng.integers(len(images), size=length), rng.integers(gap + 1, size=length)
        parts = []
        for image, space in zip(images[which], gaps):
            parts += [np.zeros((len(image), space), images.dtype), image]
        found.append((np.concatenate(parts[1:], 1), caption(labels[which])))
    return found


def patches(strip: np.ndarray, width: int = 4, stride: int = 2) -> np.ndarray:
    """Windows of ``width`` columns of an image (R, C), from left to right, ``stride`` columns apart: (S, R width), each
    row by row; S = 1 + max(0, ceil((C - width) / stride)), the last filled with zeros. Window s begins at s stride.

    >>> patches(np.arange(10.0).reshape(2, 5), width=2, stride=2)
    array([[0., 1., 5., 6.],
           [2., 3., 7., 8.],
           [4., 0., 9., 0.]])
    """
    if strip.ndim != 2 or not 1 <= stride <= width:
        got = f"an image {strip.shape}, width {width}, stride {stride}"
        raise ShapeError(describe("patches", got, "(rows, columns) and a stride from 1 to the width"))
    rows, columns = strip.shape
    number = 1 + max(0, -((width - columns) // stride))
    filled = np.pad(strip, ((0, 0), (0, (number - 1) * stride + width - columns)))
    windows = np.lib.stride_tricks.sliding_window_view(filled, width, axis=1)[:, ::stride]  # (R, S, width)
    return windows.transpose(1, 0, 2).reshape(number, rows * width)
