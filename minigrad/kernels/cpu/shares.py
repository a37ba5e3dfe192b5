"""Floor 2, CPU: one worker's part of a product, as text that is emitted into every kernel that multiplies.

``SIZE``, ``WIDTH`` and ``ROWS`` (bytes of a number, columns of a panel, rows of a register block) stand at the head of
such a kernel (``gemm.constants``).
"""

# mypy: ignore-errors
# ruff: noqa: F821

from minigrad.kernels.cpu.micro import call12


def portion(m, panels, worker, workers):
    """Rows r0 .. r1 and panels p0 .. p1 of one worker: a share of the rows where there are enough of them."""
    if m >= 2 * ROWS * workers or panels < workers:
        return m * worker // workers, m * (worker + 1) // workers, 0, panels
    return 0, m, panels * worker // workers, panels * (worker + 1) // workers


def product(rows, m, a, a_row, a_col, k, panels, n, c, c_row, add, worker, workers):
    """One worker's part of C[m, n] = or += A[m, k] times packed panels; ``rows`` is the address of gemm's ``rows``."""
    r0, r1, p0, p1 = portion(m, (n + WIDTH - 1) // WIDTH, worker, workers)
    at_a, at_c = a + SIZE * r0 * a_row, c + SIZE * r0 * c_row
    call12(rows, (r1 - r0, at_a, a_row, a_col, k, panels, n, p0, p1, at_c, c_row, add))
