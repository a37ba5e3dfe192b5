"""Floor 5: modules with parameters, under PyTorch's names, shapes and call signatures."""

from minigrad.nn.checkpoint import load, loadable, read, save, write
from minigrad.nn.layers import Dropout, Embedding, LayerNorm, Linear
from minigrad.nn.lstm import LSTM
from minigrad.nn.module import Module, Parameter
from minigrad.nn.recurrent import GRU, RNN, layer_of
from minigrad.nn.torch_weights import from_torch

__all__ = [
    "GRU", "LSTM", "RNN", "Dropout", "Embedding", "LayerNorm", "Linear", "Module", "Parameter", "from_torch",
    "layer_of", "load", "loadable", "read", "save", "write",
]  # fmt: skip
