"""Floor 7: float32 as decimal text and back, to the bit, many rows at once.

What is read is rounded to float64 and then to float32, as ``numpy.float32("...")`` does. A number of up to 2^53 times
or by a power of ten up to 10^22 is one exact operation in float64 (Clinger 1990, "How to read floating point numbers
accurately"); rows with any other number are left to the caller, who has Python's own conversion.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import floor, log10

import numpy as np

from minigrad.kernels.cpu.build import Kernel

POWERS = 10.0 ** np.arange(23)
WIDEST = 24  # bytes of a number and the space before it, at most


def parse_rows(text, at, powers, out, spans):
    """Rows of ``word number ... number`` from text[at:] into out (n, D), the words' places into spans (n, 2).

    The last D columns are the numbers. Returns how many rows were read, and the position of the next; it stops before
    a row that it cannot read.
    """
    size, dim = text.size, out.shape[1]
    for r in range(out.shape[0]):
        if at >= size:
            return r, at
        end = at
        while end < size and text[end] != 10:
            end += 1
        i = end
        for _ in range(dim):  # back over the numbers
            while i > at and (text[i - 1] == 32 or text[i - 1] == 9 or text[i - 1] == 13):
                i -= 1
            while i > at and text[i - 1] > 32:
                i -= 1
        begin, first = at, i
        while i > begin and (text[i - 1] == 32 or text[i - 1] == 9):
            i -= 1
        if i in (begin, first) or text[begin] <= 32:  # no word
            return r, at
        spans[r, 0], spans[r, 1] = begin, i
        i = first
        for d in range(dim):
            while text[i] == 32 or text[i] == 9:
                i += 1
            negative = text[i] == 45
            if negative or text[i] == 43:
                i += 1
            digits, number, exponent, dot = 0, np.int64(0), 0, False
            while i < end and (48 <= text[i] <= 57 or (text[i] == 46 and not dot)):
                if text[i] == 46:
                    dot = True
                else:
                    number = number * 10 + np.int64(text[i] - 48)
                    digits += 1
                    exponent -= dot
                    if number > 9007199254740992:
                        return r, at
                i += 1
            if i + 1 < end and (text[i] == 101 or text[i] == 69) and digits > 0:
                i += 1
                down = text[i] == 45
                if down or text[i] == 43:
                    i += 1
                power, begun = 0, i
                while i < end and 48 <= text[i] <= 57 and power < 1000:
                    power = power * 10 + np.int64(text[i] - 48)
                    i += 1
                if i == begun:
                    return r, at
                exponent += -power if down else power
            if digits == 0 or exponent < -22 or exponent > 22 or (i < end and text[i] > 32):
                return r, at
            value = np.float64(number)
            value = value * powers[exponent] if exponent >= 0 else value / powers[-exponent]
            out[r, d] = np.float32(-value if negative else value)
        at = end + 1
    return out.shape[0], at


def render_rows(words, ends, x, powers, out):
    """Lines of the words (bytes that end at ``ends``) and the rows of x (n, D) into out; the least digits that give the
    same float32. Returns how many rows were written and how many bytes; it stops before a row that it cannot write."""
    eps = 2.0**-52
    begin, at = 0, 0
    for r in range(x.shape[0]):
        row = at
        for i in range(begin, ends[r]):
            out[at] = words[i]
            at += 1
        for d in range(x.shape[1]):
            out[at] = 32
            at += 1
            value = np.float64(abs(x[r, d]))
            if x[r, d] < 0 or (value == 0 and np.float64(1) / np.float64(x[r, d]) < 0):
                out[at] = 45
                at += 1
            if value == 0:
                out[at], out[at + 1], out[at + 2] = 48, 46, 48
                at += 3
                continue
            if not (value >= 1e-12 and value < 1e15):
                return r, row
            places, number, small = np.int64(0), np.int64(0), np.float32(value)
            leading = floor(log10(value))
            for count in range(6, 10):  # digits; the number between its neighbours in float64, whoever reads it
                places = np.int64(count - 1 - leading)
                scaled = value * powers[places] if places >= 0 else value / powers[-places]
                number = np.int64(scaled + 0.5)
                back = np.float64(number)
                back = back / powers[places] if places >= 0 else back * powers[-places]
                if np.float32(back * (1 + eps)) == small and np.float32(back * (1 - eps)) == small:
                    break
            while number % 10 == 0:
                number //= 10
                places -= 1
            count, rest = 0, number
            while rest > 0:
                rest //= 10
                count += 1
            point = count - places  # digits before the point
            shift = 0 if point > -5 else point - 1
            point -= shift
            if point <= 0:  # 0.000ddd
                out[at], out[at + 1] = 48, 46
                for k in range(-point):
                    out[at + 2 + k] = 48
                at += 2 - point
                for k in range(count):
                    out[at + count - 1 - k] = 48 + number % 10
                    number //= 10
                at += count
            else:  # ddd.ddd, ddd000.0
                last = max(count, point + 1)
                for k in range(last):
                    digit = 0
                    if last - 1 - k < count:
                        digit = number % 10
                        number //= 10
                    place = last - 1 - k
                    out[at + place + (place >= point)] = 48 + digit
                out[at + point] = 46
                at += last + 1
            if shift != 0:  # always below zero, and of two digits at most
                out[at], out[at + 1], out[at + 2], out[at + 3] = 101, 45, 48 + -shift // 10, 48 + -shift % 10
                at += 4
        out[at] = 10
        at += 1
        begin = ends[r]
    return x.shape[0], at


_PARSE, _RENDER = Kernel(parse_rows), Kernel(render_rows)


def parse(text: np.ndarray, at: int, out: np.ndarray, spans: np.ndarray) -> tuple[int, int]:
    """See ``parse_rows``."""
    return _PARSE[POWERS.dtype](text, at, POWERS, out, spans)


def render(words: list[bytes], x: np.ndarray) -> bytes:
    """The lines of words and the rows of x (n, D) float32.

    >>> render([b"one", b"two"], np.array([[0.1, -1], [1e-30, 16777216]], np.float32))
    b'one 0.1 -1.0\\ntwo 1e-30 1.6777216e+07\\n'
    """
    ends = np.fromiter(map(len, words), np.int64, len(words)).cumsum()
    joined = np.frombuffer(b"".join(words), np.uint8)
    out = np.empty(len(joined) + len(words) * (1 + WIDEST * x.shape[1]), np.uint8)
    pieces, row = [], 0
    while row < len(words):
        begin = ends[row - 1] if row else 0
        n, size = _RENDER[POWERS.dtype](joined[begin:], ends[row:] - begin, x[row:], POWERS, out)
        pieces.append(out[:size].tobytes())
        row += n
        if row < len(words):
            numbers = "".join(f" {v!s}" for v in x[row])  # numpy writes a float32 with the least digits too
            pieces.append(words[row] + numbers.encode() + b"\n")
            row += 1
    return b"".join(pieces)
