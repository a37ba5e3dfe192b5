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


def product_of_steps(rows, at, s, stop, first, last, a, a_row, k, panels, n, c, c_row, add):
    """C = or += A times packed panels for the members first .. last of the steps s .. stop; ``at`` is the table of a
    layout, four numbers a step. Panel by panel: each is read once for all these steps."""
    members, final = at[4 * s + 3], at[4 * stop - 4]
    low = min(at[4 * s], final)
    together = first == 0 and last >= members  # then the rows of the steps lie side by side
    for p in range((n + WIDTH - 1) // WIDTH):
        if together:
            m = max(at[4 * s] + members, final + at[4 * stop - 1]) - low
            call12(
                rows, (m, a + SIZE * low * a_row, a_row, 1, k, panels, n, p, p + 1, c + SIZE * low * c_row, c_row, add)
            )
        else:
            for step in range(s, stop):
                m, now = min(last, at[4 * step + 3]) - first, at[4 * step] + first
                if m > 0:
                    at_a, at_c = a + SIZE * now * a_row, c + SIZE * now * c_row
                    call12(rows, (m, at_a, a_row, 1, k, panels, n, p, p + 1, at_c, c_row, add))
