"""The model of ``bench_translate`` as a user of torch writes it, with minigrad's parameters at the start.

Encoder: bidirectional ``nn.LSTM`` over packed sequences. Decoder with attention and input feeding: ``nn.LSTMCell`` in a
loop over the steps; without attention: ``nn.LSTM``. The second bias of each LSTM stays 0, as minigrad has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Translator(nn.Module):
    """One layer each; ``first``: the parameters by minigrad's names; ``shape``: the fields of a Seq2SeqConfig."""

    def __init__(self, first: dict[str, np.ndarray], shape: dict[str, Any], start: int):
        super().__init__()
        assert shape["cell"] == "lstm" and shape["layers"] == 1 and shape["direction"] == "both"
        self.shape, self.start = shape, start
        D, H, self.attends = shape["embedding"], shape["hidden"], shape["attention"] != "none"
        assert shape["attention"] in ("none", "general") and not shape["tied"]
        Vs, Vt = len(first["source_embedding.weight"]), len(first["embedding.weight"])
        self.source_embedding, self.embedding = nn.Embedding(Vs, D), nn.Embedding(Vt, D)
        self.encoder = nn.LSTM(D, H // 2, bidirectional=True)
        self.bridge = nn.ModuleList([nn.Linear(H, H), nn.Linear(H, H)])
        self.decoder = nn.LSTMCell(D + H, H) if self.attends else nn.LSTM(D, H)
        if self.attends:
            self.W, self.C = nn.Linear(H, H, bias=False), nn.Linear(2 * H, H, bias=False)
        self.output = nn.Linear(H, Vt)
        self.dropout = nn.Dropout(shape["dropout"])
        self.names = self._names()
        with torch.no_grad():
            for name, (own, second) in self.names.items():
                own.copy_(torch.from_numpy(first[name]))
                if second is not None:
                    second.zero_().requires_grad_(False)
        assert self.names.keys() == first.keys(), self.names.keys() ^ first.keys()

    def _names(self) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
        """minigrad's names, the parameter of that name, and for a bias the one that stays 0."""
        found: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {
            "source_embedding.weight": (self.source_embedding.weight, None),
            "embedding.weight": (self.embedding.weight, None),
            "output.weight": (self.output.weight, None),
            "output.bias": (self.output.bias, None),
        }
        for i, layer in enumerate(self.bridge):
            found |= {f"bridge.{i}.weight": (layer.weight, None), f"bridge.{i}.bias": (layer.bias, None)}
        for end in ("", "_reverse"):
            for part in ("ih", "hh"):
                found[f"encoder.weight_{part}_l0{end}"] = (getattr(self.encoder, f"weight_{part}_l0{end}"), None)
            ours, other = (getattr(self.encoder, f"bias_{part}_l0{end}") for part in ("ih", "hh"))
            found[f"encoder.bias_l0{end}"] = (ours, other)
        suffix = "" if self.attends else "_l0"
        for part in ("ih", "hh"):
            found[f"decoder.weight_{part}_l0"] = (getattr(self.decoder, f"weight_{part}{suffix}"), None)
        ours, other = (getattr(self.decoder, f"bias_{part}{suffix}") for part in ("ih", "hh"))
        found["decoder.bias_l0"] = (ours, other)
        if self.attends:
            found |= {"attention.W": (self.W.weight, None), "attention.C": (self.C.weight, None)}
        return found

    def state_arrays(self) -> dict[str, np.ndarray]:
        return {name: own.detach().numpy().copy() for name, (own, _) in self.names.items()}

    def loss(self, source: np.ndarray, lengths: np.ndarray, target: np.ndarray) -> torch.Tensor:
        target_ = torch.from_numpy(target.astype(np.int64))
        read = torch.roll(target_, 1, 0)
        read[0] = self.start
        read = read.clamp(min=0)
        x = self.dropout(self.source_embedding(torch.from_numpy(source.astype(np.int64))))
        packed = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
        outputs, (h, c) = self.encoder(packed)
        memory = pad_packed_sequence(outputs)[0]  # (S, B, H)
        h, c = (torch.cat([s[0], s[1]], -1) for s in (h, c))
        h, c = torch.tanh(self.bridge[0](h)), self.bridge[1](c)
        y = self.dropout(self.embedding(read))
        if self.attends:
            values = self.dropout(memory).transpose(0, 1)  # (B, S, H)
            keys = self.W(values)
            there = torch.arange(len(source)) < torch.from_numpy(lengths)[:, None]
            bias = torch.zeros(there.shape).masked_fill(~there, -1e9)
            fed, found = torch.zeros(len(lengths), self.shape["hidden"]), []
            for y_t in y:
                h, c = self.decoder(torch.cat([y_t, fed], -1), (h, c))
                a = torch.softmax(torch.bmm(keys, h[:, :, None])[:, :, 0] + bias, -1)
                context = torch.bmm(a[:, None], values)[:, 0]
                fed = torch.tanh(self.C(torch.cat([h, context], -1)))
                found.append(fed)
            readouts = torch.stack(found)
        else:
            readouts = self.decoder(y, (h[None], c[None]))[0]
        counted = target_ >= 0
        logits = self.output(self.dropout(readouts[counted]))
        smoothing = self.shape["label_smoothing"] if self.training else 0.0
        return F.cross_entropy(logits, target_[counted], label_smoothing=smoothing)


class Training:
    """Steps of Adam at given rates, with the norm of the gradient cut off."""

    def __init__(self, model: Translator, clip: float):
        self.model, self.clip = model, clip
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters)

    def step(self, batch: tuple[np.ndarray, ...], rate: float) -> float:
        self.optimizer.zero_grad()
        loss = self.model.loss(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return loss.item()
