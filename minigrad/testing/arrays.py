"""Floor 6: arrays for tests: values in a domain. Needs NumPy only.

An array of a counterexample prints as the call of ``array`` that makes it, so it can be pasted into a test.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.errors import UserError, describe
from minigrad.testing.layout import lay_out

DOMAINS: dict[str, tuple[float, float]] = {
    "real": (-3.0, 3.0), "positive": (0.3, 3.0), "negative": (-3.0, -0.3), "unit": (0.05, 0.95),
    "apart": (-3.0, 3.0), "near-singular": (-3.0, 3.0), "extreme": (-4.0, 4.0),
}  # fmt: skip
PATTERNS = ("even", "equal")

Domain = str | tuple[float, float]


def interval(domain: Domain) -> tuple[float, float]:
    """The interval of a domain: a name among DOMAINS, or (low, high). UserError for others and for empty ones."""
    if isinstance(domain, str):
        if domain not in DOMAINS:
            raise UserError(describe("domain", repr(domain), f"one of {', '.join(DOMAINS)}, or (low, high)"))
        return DOMAINS[domain]
    try:
        low, high = map(float, domain)
    except (TypeError, ValueError):
        raise UserError(describe("domain", repr(domain), f"one of {', '.join(DOMAINS)}, or (low, high)")) from None
    if not low < high:
        raise UserError(describe("domain", f"({low:g}, {high:g}), which holds nothing", "low < high"))
    if not np.isfinite(high - low):
        raise UserError(describe("domain", f"({low:g}, {high:g})", "finite ends"))
    return low, high


def fill(shape: tuple[int, ...], domain: Domain = "real", values: int | str = "even") -> np.ndarray:
    """float64 values of a domain, rounded to four digits of it: "even" ones, all "equal", or random ones of a seed.

    "real" is [-3, 3], "positive" [0.3, 3], "negative" [-3, -0.3], "unit" [0.05, 0.95]. "apart" keeps away from kinks:
    no two elements are equal and none is near an integer. "near-singular" has rows that are almost equal, and numbers
    near zero where there is one axis only. "extreme" has magnitudes from 1e-4 to 1e4.

    >>> fill((3,), "positive")
    array([0.93, 1.83, 2.73])
    """
    low, high = interval(domain)
    n = int(np.prod(shape))
    gap = (high - low) / max(n, 1)
    if isinstance(values, str):
        if values not in PATTERNS:
            raise UserError(describe("fill", repr(values), "'even', 'equal' or a seed"))
        rng = np.random.default_rng(0)
        x = low + gap * (np.arange(n) + 0.7)  # none is zero
        if values == "equal" and domain != "apart":
            x = np.full(n, x[n // 3] if n else 0.0)
    else:
        rng = np.random.default_rng(values)
        x = rng.permutation(low + gap * (np.arange(n) + rng.uniform(0.2, 0.8))) if domain == "apart" else (
            rng.uniform(low, high, n))  # fmt: skip
    if domain == "apart":
        whole = np.rint(x)
        margin = 0.1 * min(gap, 1.0)
        return np.where(np.abs(x - whole) < margin, whole + margin, x).reshape(shape)
    if domain == "extreme":
        sign = np.where(np.arange(n) % 2 if isinstance(values, str) else rng.random(n) < 0.5, -1.0, 1.0)
        return np.array([float(f"{v:.4g}") for v in sign * 10.0**x]).reshape(shape)
    digits = 4 - min(0, int(np.floor(np.log10(high - low))))
    x = np.clip(np.round(x, digits), low, high).reshape(shape)
    if domain == "near-singular":
        noise = 1e-4 * np.round(rng.uniform(1, 9, shape), 2)
        return np.asarray(noise) if len(shape) < 2 else x[..., :1, :] + noise if n else x
    return x


def array(
    shape: tuple[int, ...] = (),
    dtype: Any = "float64",
    layout: str = "plain",
    domain: Domain = "real",
    values: int | str = "even",
) -> np.ndarray:
    """An array for a test: shape, dtype, one of LAYOUTS, a domain and values as ``fill`` has them.

    UserError names what is not known.

    >>> array((2, 2), "float32", "transposed")
    array([[-1.95, -0.45],
           [ 1.05,  2.55]], dtype=float32)
    """
    return lay_out(fill(tuple(shape), domain, values).astype(dtype), layout)
