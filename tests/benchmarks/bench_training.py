"""A whole training step of a language model against torch's: embedding, LSTM, linear layer, loss, clipping, Adam.

"sparse" is minigrad with ``Embedding(sparse=True)``: Adam then leaves alone the rows that a step does not read, which
is another computation than torch's here, so the ratio to it is the work saved, not the speed.
"""

from __future__ import annotations

from tests.benchmarks.harness import KEEP, Ratios, Worker, installed, measure

CASES = [(64, 32, 65, 64, 256, 1), (50, 50, 65, 64, 128, 2), (20, 20, 10_000, 200, 200, 2),
         (35, 20, 10_000, 650, 650, 2)]  # T, B, V, D, H, layers  # fmt: skip


def main() -> None:
    sides = {"minigrad": Worker("minigrad_worker"), "sparse": Worker("minigrad_worker", SPARSE="1")}
    if installed("torch"):
        sides |= {"torch": Worker("torch_worker"), "torch keeping memory": Worker("torch_worker", **KEEP)}
    ratios = Ratios()
    for sizes in CASES:
        T, B, V, D, H, layers = sizes
        found = measure(sides, cell="language model", sizes=sizes, train=True)
        title = f"T{T} B{B} V{V} D{D} H{H} x{layers}"
        ratios.line(title, found, f"{T * B / found['minigrad']:8,.0f} tokens/s")
    ratios.means()
    for side in sides.values():
        side.close()


if __name__ == "__main__":
    main()
