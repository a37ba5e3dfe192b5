"""Floor 2: random numbers that are a function of a key and a counter, the single definition for every target.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Numbers do not depend on those before
them, so threads share them out as they like, and a CPU and a GPU give the same ones, to the last bit. Words of 32 bits
are whole numbers of 64, so that the text means the same everywhere; a product that overflows is cut to its low bits.
"""

# mypy: disable-error-code="no-untyped-def"


def philox(c0, c1, c2, c3, k0, k1):
    """Four random words from a counter of four and a key of two."""
    for _ in range(10):
        p, q = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = (q >> 32) & 0xFFFFFFFF ^ c1 ^ k0, q & 0xFFFFFFFF
        c2, c3 = (p >> 32) & 0xFFFFFFFF ^ c3 ^ k1, p & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(i, key):
    """Random words 4 i .. 4 i + 3 of the stream of ``key``, 0 <= key < 2^63."""
    return philox(i & 0xFFFFFFFF, i >> 32, 0, 0, key & 0xFFFFFFFF, key >> 32)
