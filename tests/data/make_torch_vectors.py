"""Write the reference vectors of this folder with PyTorch. Not run by the tests, which need no PyTorch.

python make_torch_vectors.py        # made with torch 2.13.0 on a CPU
"""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
T, B, I, H = 4, 3, 2, 3
LENGTHS = [3, 4, 1]
RECURRENT = {
    "rnn_tanh": lambda **o: torch.nn.RNN(I, H, **o),
    "rnn_relu": lambda **o: torch.nn.RNN(I, H, nonlinearity="relu", **o),
    "gru": lambda **o: torch.nn.GRU(I, H, **o),
    "lstm": lambda **o: torch.nn.LSTM(I, H, **o),
}
OPTIMISERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd_momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    "adagrad": ("Adagrad", {"lr": 0.1, "weight_decay": 0.05}),
    "rmsprop": ("RMSprop", {"lr": 0.01}),
    "rmsprop_momentum": ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.05, "eps": 1e-6}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam_decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1, "eps": 1e-6}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
}


def recurrent(kind, lengths):
    """Two layers, both directions, with a random cotangent for every result: values and all gradients."""
    torch.manual_seed(sorted(RECURRENT).index(kind))
    layer = RECURRENT[kind](num_layers=2, bidirectional=True)
    x = torch.randn(T, B, I, requires_grad=True)
    states = [torch.randn(4, B, H, requires_grad=True) for _ in range(2 if kind == "lstm" else 1)]
    start = tuple(states) if kind == "lstm" else states[0]
    if lengths:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
        y, end = layer(packed, start)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    else:
        y, end = layer(x, start)
    results = [y, *(end if kind == "lstm" else [end])]
    gs = [torch.randn_like(r) for r in results]
    sum((r * g).sum() for r, g in zip(results, gs)).backward()
    out = {"x": x, "x.grad": x.grad}
    out |= {f"state{i}": s for i, s in enumerate(states)} | {f"state{i}.grad": s.grad for i, s in enumerate(states)}
    out |= {f"result{i}": r for i, r in enumerate(results)} | {f"result{i}.g": g for i, g in enumerate(gs)}
    out |= {f"parameter/{name}": p for name, p in layer.named_parameters()}
    return out | {f"parameter.grad/{name}": p.grad for name, p in layer.named_parameters()}


def layer_norm():
    torch.manual_seed(0)
    layer = torch.nn.LayerNorm(6)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    x = (3 * torch.randn(2, 3, 6) + 1).requires_grad_()
    y, g = layer(x), torch.randn(2, 3, 6)
    y.backward(g)
    found = {"x": x, "g": g, "y": y, "weight": layer.weight, "bias": layer.bias}
    return found | {"x.grad": x.grad, "weight.grad": layer.weight.grad, "bias.grad": layer.bias.grad}


def optimiser(kind, start, gradients):
    """The parameters after each step; the second has no gradient where ``gradients`` has None."""
    parameters = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in start]
    name, options = OPTIMISERS[kind]
    opt = getattr(torch.optim, name)(parameters, **options)
    path = []
    for gs in gradients:
        for p, g in zip(parameters, gs):
            p.grad = None if g is None else torch.tensor(g, dtype=torch.float64)
        opt.step()
        path.append([p.tolist() for p in parameters])
    return {"class": name, "options": options, "path": path}


def clipped(gradients, max_norm):
    parameters = [torch.zeros(len(g), dtype=torch.float64, requires_grad=True) for g in gradients]
    for p, g in zip(parameters, gradients):
        p.grad = torch.tensor(g, dtype=torch.float64)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return {"max_norm": max_norm, "norm": norm.item(), "clipped": [p.grad.tolist() for p in parameters]}


def plain(x):
    """Nested lists, each number with the digits that float32 needs."""
    return [plain(part) for part in x] if x.ndim else float(str(np.float32(x.item())))


def main():
    found = {f"{kind}/{name}": value for kind in RECURRENT for name, value in recurrent(kind, False).items()}
    for kind in ("gru", "lstm"):  # the same parameters and inputs, other lengths
        again = {f"{kind}_lengths/{name}": value for name, value in recurrent(kind, True).items()}
        found |= {name: v for name, v in again.items() if "grad" in name or "result" in name}
    found |= {f"layer_norm/{name}": value for name, value in layer_norm().items()}
    lines = [f"{json.dumps(name)}: {json.dumps(plain(value.detach()))}" for name, value in found.items()]
    lines.append(f'"lengths": {json.dumps(LENGTHS)}')
    (HERE / "torch_layers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")

    rng = np.random.default_rng(0)
    start = [rng.standard_normal(3).round(3).tolist(), rng.standard_normal(2).round(3).tolist()]
    gradients = [[rng.standard_normal(n).round(3).tolist() for n in (3, 2)] for _ in range(5)]
    for step in (0, 1, 3):
        gradients[step][1] = None
    data = {
        "start": start,
        "gradients": gradients,
        "optimisers": {kind: optimiser(kind, start, gradients) for kind in OPTIMISERS},
        "clip": [clipped(gradients[2], 0.5), clipped(gradients[2], 100.0)],
    }
    (HERE / "torch_optim.json").write_text(json.dumps(data, indent=1) + "\n")


main()
