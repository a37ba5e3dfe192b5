"""Output layers over a large vocabulary: a whole training step of a language model (V 100,000, H 200, T B = 700), and
the peak of memory of its loss and gradients as V grows: above all, what holds gradients of V rows.

Ratios are times of the exact softmax divided by those of the other. Sampled, NCE and adaptive step only the rows of
the embedding that were read. What they cost in perplexity is another question.
"""

from __future__ import annotations

from tests.benchmarks.harness import Worker, measure

KINDS = {
    "exact": ("exact", 1),
    "adaptive": ("adaptive", 1),
    "sampled 1024": ("sampled", 1024),
    "sampled 2048": ("sampled", 2048),
    "sampled 4096": ("sampled", 4096),
    "sampled 8192": ("sampled", 8192),
    "nce 1024": ("nce", 1024),
}
RETURN = {"MINIGRAD_KEEP_MEMORY": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is freed: peaks are true
T, B, V, H = 35, 20, 100_000, 200


def main() -> None:
    sides = {name: Worker("softmax_worker", SOFTMAX=kind, SAMPLES=str(k)) for name, (kind, k) in KINDS.items()}
    found = measure(sides, sizes=(T, B, V, H))
    for name, seconds in found.items():
        speed = f"{T * B / seconds:9,.0f} tokens/s   {found['exact'] / seconds:6.2f}x"
        print(f"V{V} H{H} T{T} B{B} {name:14} {seconds * 1e3:8.1f} ms  {speed}", flush=True)
    for side in sides.values():
        side.close()
    print("peak of memory of loss and gradients, in MB, for V = 10,000, 30,000, 100,000")
    for name, (kind, k) in KINDS.items():
        peaks = []
        for classes in (10_000, 30_000, 100_000):
            side = Worker("softmax_worker", SOFTMAX=kind, SAMPLES=str(k), **RETURN)
            peaks.append(side.ask(peak=True, sizes=(T, B, classes, H), update=False) / 1e6)
            side.close()
        print(f"{name:14} " + "  ".join(f"{peak:7.1f}" for peak in peaks), flush=True)


if __name__ == "__main__":
    main()
