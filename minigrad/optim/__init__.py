"""Floor 5: optimisers, gradient clipping and learning-rate schedules."""

from minigrad.optim.average import Average
from minigrad.optim.clip import clip_grad_norm_, clip_grad_value_
from minigrad.optim.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from minigrad.optim.schedules import constant, cosine, exponential, inverse_sqrt, step_decay, warmup

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "Average", "Optimizer", "RMSprop", "clip_grad_norm_", "clip_grad_value_",
    "constant", "cosine", "exponential", "inverse_sqrt", "step_decay", "warmup",
]  # fmt: skip
