"""The small recipe of Zaremba et al. in minigrad and in torch: same words, order and first parameters.

``python -m tests.benchmarks zaremba`` reads ZAREMBA_DATA, a folder with train.txt, valid.txt and test.txt in the format
of the Penn Treebank corpus (``tests.benchmarks.novels`` makes one), and takes EPOCHS of the 13. The two sides take
turns, an epoch each; perplexities and seconds stand side by side.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.harness import Worker


class Minigrad:
    """The preset, through the package's own trainer."""

    def __init__(self, folder: str, shared: str):
        from minigrad.models import LanguageConfig, LanguageModel, Trainer, WindowRecipe
        from minigrad.models.batches import Windows
        from minigrad.models.lm.presets import preset
        from minigrad.models.vocabulary import VocabularyConfig

        settings = preset("zaremba-small")
        texts = {name: (Path(folder) / f"{name}.txt").read_text() for name in ("train", "valid", "test")}
        vocabulary = VocabularyConfig.pick(settings).build([texts["train"]])
        self.ids = {name: vocabulary.encode(text) for name, text in texts.items()}
        recipe = WindowRecipe.pick(settings)
        self.model = LanguageModel(LanguageConfig.pick(settings), vocabulary, generator=recipe.seed)
        windows = Windows(self.ids["train"], recipe.batch, recipe.window, recipe.reset)
        self.trainer = Trainer(self.model, windows, self.model.initial_state(recipe.batch), recipe)
        first = {f"parameter.{name}": a for name, a in self.model.state_dict().items()}
        np.savez(shared, recipe=json.dumps(recipe.to_json()), **self.ids, **first)
        self.steps = iter(self.trainer)

    def epoch(self) -> float:
        return float(np.mean([s.loss for s in islice(self.steps, self.trainer.batches.per_epoch)]))

    def evaluate(self, part: str) -> float:
        return self.model.evaluate(self.ids[part])


class Torch:
    """The same as a torch user writes it. Its second bias stays 0."""

    def __init__(self, folder: str, shared: str):
        import torch

        self.torch = torch
        with np.load(shared) as file:
            data = dict(file)
        self.recipe = json.loads(str(data["recipe"]))
        p = {name.removeprefix("parameter."): torch.from_numpy(a) for name, a in data.items() if "." in name}
        V, D = p["embedding.weight"].shape
        H = p["recurrent.weight_hh_l0"].shape[1]
        self.embedding, self.net, self.head = torch.nn.Embedding(V, D), torch.nn.LSTM(D, H, 2), torch.nn.Linear(H, V)
        with torch.no_grad():
            self.embedding.weight.copy_(p["embedding.weight"])
            self.head.weight.copy_(p["output.weight"])
            self.head.bias.copy_(p["output.bias"])
            for k in range(2):
                for name in (f"weight_ih_l{k}", f"weight_hh_l{k}"):
                    getattr(self.net, name).copy_(p[f"recurrent.{name}"])
                getattr(self.net, f"bias_ih_l{k}").copy_(p[f"recurrent.bias_l{k}"])
                getattr(self.net, f"bias_hh_l{k}").zero_().requires_grad_(False)
        modules = (self.embedding, self.net, self.head)
        self.parameters = [q for m in modules for q in m.parameters() if q.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=self.recipe["lr"])
        self.ids = {name: torch.from_numpy(data[name].astype(np.int64)) for name in ("train", "valid", "test")}
        self.number = 0

    def loss(self, x: Any, y: Any, state: Any) -> tuple[Any, Any]:
        h, state = self.net(self.embedding(x), state)
        logits = self.head(h).flatten(0, 1)
        return self.torch.nn.functional.cross_entropy(logits, y.flatten()), state

    def epoch(self) -> float:
        r, ids = self.recipe, self.ids["train"]
        n = (len(ids) - 1) // r["batch"] * r["batch"]
        x, y = (a.reshape(r["batch"], -1).t().contiguous() for a in (ids[:n], ids[1 : n + 1]))
        self.optimizer.param_groups[0]["lr"] = r["lr"] * r["decay"] ** max(0, self.number + 1 - r["hold"])
        state, losses, T = None, [], r["window"]
        for t in range(0, len(x) // T * T, T):
            self.optimizer.zero_grad()
            loss, state = self.loss(x[t : t + T], y[t : t + T], state)
            (loss * T).backward()
            self.torch.nn.utils.clip_grad_norm_(self.parameters, r["clip"])
            self.optimizer.step()
            state = tuple(s.detach() for s in state)
            losses.append(loss.item())
        self.number += 1
        return float(np.mean(losses))

    def evaluate(self, part: str) -> float:
        ids, total, state = self.ids[part], 0.0, None
        with self.torch.no_grad():
            for t in range(0, len(ids) - 1, 256):
                x, y = ids[t : t + 256], ids[t + 1 : t + 257]
                x = x[: len(y)]
                loss, state = self.loss(x[:, None], y[:, None], state)
                total += loss.item() * len(y)
        return total / (len(ids) - 1)


def serve() -> None:
    """A side in a process of its own; requests: {"folder", "shared"}, {"epoch"}, {"evaluate": part}."""
    side: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        if "folder" in request:
            side = {"minigrad": Minigrad, "torch": Torch}[os.environ["SIDE"]](**request)
            answer = None
        else:
            began = time.perf_counter()
            value = side.epoch() if "epoch" in request else side.evaluate(request["evaluate"])
            answer = (value, time.perf_counter() - began)
        print(json.dumps(answer), flush=True)


def main() -> None:
    folder, epochs = os.environ.get("ZAREMBA_DATA"), int(os.environ.get("EPOCHS", 13))
    if not folder:
        print("set ZAREMBA_DATA to a folder with train.txt, valid.txt and test.txt; see tests/benchmarks/novels.py")
        return
    sides = {name: Worker("bench_zaremba", SIDE=name) for name in ("minigrad", "torch")}
    seconds = dict.fromkeys(sides, 0.0)
    with tempfile.TemporaryDirectory() as temp:
        for side in sides.values():
            side.ask(folder=folder, shared=f"{temp}/shared.npz")
    for epoch in range(1, epochs + 1):
        line = f"epoch {epoch:2}"
        for name, side in sides.items():
            train, took = side.ask(epoch=True)
            seconds[name] += took
            valid, _ = side.ask(evaluate="valid")
            line += f"   {name}: train {math.exp(train):7.2f} valid {math.exp(valid):7.2f} {took:6.1f} s"
        print(line, flush=True)
    for name, side in sides.items():
        test, _ = side.ask(evaluate="test")
        print(f"{name}: test perplexity {math.exp(test):.2f} after {seconds[name] / 60:.1f} minutes of training")


if __name__ == "__main__":
    serve()
