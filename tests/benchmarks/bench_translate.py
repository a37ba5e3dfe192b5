"""French to English, with attention and without, and the same with attention in torch: same pairs, order of batches,
first parameters and learning rates, one after the other for as long.

``python -m tests.benchmarks translate`` reads PAIRS, a file of English and French lines with a tab between them (as
Tatoeba's fra.txt of manythings.org). Each of SIDES (default ``attention plain torch``) has MINUTES (default 60) for its
training or, if set, EPOCHS; SAVE is a folder for the models. What torch has learned goes into minigrad's model for the
test, so that all are decoded by the same beam search. Before that the sides take turns of ten steps, and their medians
stand side by side; TURNS, default 20, 0 for none.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.harness import Worker

SIDES = ("attention", "plain", "torch")  # and torch-plain
SHOWN = 5  # translations of each side
STEPS = 10  # of a turn


class Side:
    """One of ``SIDES`` in a process of its own."""

    def __init__(self, name: str, pairs: str, budget: dict[str, float]):
        from minigrad.models import Recipe, Trainer
        from minigrad.models.seq2seq.model import Seq2Seq, Seq2SeqConfig
        from minigrad.models.seq2seq.pairs import PairConfig, Pairs
        from minigrad.models.vocabulary import LineVocabularyConfig

        self.name = name
        how = PairConfig(swap=True, unique=True, longest=12, limit=100_000, validation_share=0.01, test_share=0.01)
        self.parts = how.split(how.read(pairs))
        spelling = LineVocabularyConfig(level="subword", vocab_size=4000)
        source, target = spelling.build(self.parts.training.sources), spelling.build(self.parts.training.targets)
        self.recipe = Recipe(batch=64, lr=2e-3, warmup=500, clip=1.0, seed=1, **budget)
        self.batches = Pairs.of(self.parts.training, source, target, 64, seed=1)
        self.validation = Pairs.of(self.parts.validation, source, target, 64, seed=1)
        shape = {"hidden": 256, "embedding": 256, "dropout": 0.3, "label_smoothing": 0.1}
        config = Seq2SeqConfig(attention="none" if name.endswith("plain") else "general", **shape)
        self.model = Seq2Seq(config, source, target, generator=self.recipe.seed)
        self.trainer = Trainer(self.model, self.batches, None, self.recipe)
        self.torch: Any = None
        if name.startswith("torch"):
            from tests.benchmarks.torch_translate import Training, Translator

            translator = Translator(self.model.state_dict(), config.to_json(), target.start)
            self.torch = Training(translator, self.recipe.clip)

    def facts(self) -> dict[str, Any]:
        sizes = {name: len(part) for name, part in self.parts._asdict().items()}
        vocabularies = [len(self.model.source), len(self.model.target)]
        return {**sizes, "vocabularies": vocabularies, "parameters": sum(p.size for p in self.model.parameters())}

    def step(self, number: int, progress: float) -> float:
        """One update; the loss."""
        if not self.torch:
            return self.trainer.step(progress).loss
        batch, _ = self.batches(number)
        return self.torch.step(batch, self.recipe.rate(number + 1, number / self.batches.per_epoch, progress))

    def turn(self, number: int) -> list[float]:
        """Seconds for a target token, in each of some steps."""
        found = []
        for k in range(number, number + STEPS):
            (_, _, target), _ = self.batches(k)
            began = time.perf_counter()
            self.step(k, 0.0)
            found.append((time.perf_counter() - began) / int((target >= 0).sum()))
        return found

    def train(self) -> dict[str, Any]:
        """Steps, epochs, and tokens of the targets a second."""
        seconds, steps = 60 * (self.recipe.minutes or 0), (self.recipe.epochs or 0) * self.batches.per_epoch
        began, number, losses, shown = time.perf_counter(), 0, [], 0.0
        while (progress := number / steps if steps else (time.perf_counter() - began) / seconds) < 1:
            losses.append(self.step(number, progress))
            number += 1
            if progress > shown:
                shown += 1 / 12
                minutes = (time.perf_counter() - began) / 60
                line = f"{self.name}: {minutes:5.1f} min  loss {np.mean(losses[-200:]):.3f}"
                print(line, file=sys.stderr, flush=True)
        used, epochs = time.perf_counter() - began, number / self.batches.per_epoch
        return {"steps": number, "epochs": epochs, "minutes": used / 60, "loss": float(np.mean(losses[-500:])),
                "tokens/s": self.batches.symbols * epochs / used}  # fmt: skip

    def test(self, beam: int, save: str) -> dict[str, Any]:
        """Validation, BLEU and chrF of the test pairs, and the first few translations."""
        from minigrad.models.seq2seq.decode import Decoding, translate
        from minigrad.models.seq2seq.metrics import bleu, chrf, exact

        if self.torch:
            self.model.load_state_dict(self.torch.model.state_arrays())
        if save:
            self.model.save(Path(save) / f"{self.name}.safetensors")
        test = self.parts.test
        found = {"validation": self.model.evaluate(self.validation)}
        for width in (1, beam):
            how = Decoding(beam=width)
            out = [best[0].text for best in translate(self.model, test.sources, how)]
            found |= {f"beam {width} {s.name}": s.text for s in
                      (metric(out, list(test.targets)) for metric in (bleu, chrf, exact))}  # fmt: skip
        order = np.random.default_rng(0).permutation(len(test))[:SHOWN]
        return {**found, "samples": [(test.sources[i], test.targets[i], out[i]) for i in order]}


def serve() -> None:
    """Requests: {"pairs", "budget"}, {"turn": first step}, {"train"}, {"test": beam, "save"}."""
    side: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        if "pairs" in request:
            side = Side(os.environ["SIDE"], **request)
            answer = side.facts()
        elif "turn" in request:
            answer = side.turn(request["turn"])
        elif "train" in request:
            answer = side.train()
        else:
            answer = side.test(request["test"], request["save"])
        print(json.dumps(answer), flush=True)


def speed(names: list[str], pairs: str, turns: int) -> None:
    """Target tokens a second of each side, and how many times faster it is than each side of torch."""
    sides = {name: Worker("bench_translate", SIDE=name) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for side in sides.values():
        side.ask(pairs=pairs, budget={"minutes": 1})
        side.ask(turn=0)
    for k in range(turns):
        for name, side in sides.items():
            time.sleep(0.02)  # the threads of the side before go to sleep
            times[name] += side.ask(turn=(k + 1) * STEPS)
    medians = {name: statistics.median(t) for name, t in times.items()}
    for name, median in medians.items():
        others = "  ".join(f"{medians[o] / median:.2f}x {o}" for o in names if o.startswith("torch") and o != name)
        print(f"{name:12} {1 / median:8,.0f} target tokens a second   {others}", flush=True)
    for side in sides.values():
        side.close()


def main() -> None:
    pairs, epochs = os.environ.get("PAIRS"), os.environ.get("EPOCHS")
    budget = {"epochs": int(epochs)} if epochs else {"minutes": float(os.environ.get("MINUTES", 60))}
    if not pairs:
        print("set PAIRS to a file of English and French lines, a tab between them")
        return
    names = os.environ.get("SIDES", " ".join(SIDES)).split()
    if turns := int(os.environ.get("TURNS", 20)):
        speed(names, pairs, turns)
    for name in names if float(budget.get("minutes", 1)) else []:
        side = Worker("bench_translate", SIDE=name)
        facts = side.ask(pairs=pairs, budget=budget)
        print(f"\n{name}: {json.dumps(facts)}", flush=True)
        print(f"{name}: {json.dumps(side.ask(train=True))}", flush=True)
        found = side.ask(test=5, save=os.environ.get("SAVE", ""))
        samples = found.pop("samples")
        for key, value in found.items():
            print(f"{name}: {key}: {value}")
        for source, target, out in samples:
            print(f"  {source}\n    expected: {target}\n    found:    {out}", flush=True)
        side.close()


if __name__ == "__main__":
    serve()
