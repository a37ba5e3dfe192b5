"""Floor 5: the mean of the parameters over the steps of a training, which is often better than the last of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from minigrad.engine import Tensor
from minigrad.kernels import BACKENDS, moved


class Average:
    """m_n = m_{n-1} + (p_n - m_{n-1}) / n, for each parameter (Polyak and Juditsky 1992).

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> average = mg.optim.Average([w])
    >>> for value in (1.0, 2.0, 6.0):
    ...     w.data = np.array([value], np.float32)
    ...     average.update()
    >>> with average.applied():
    ...     print(w.numpy())
    [3.]
    >>> w.numpy()
    array([6.], dtype=float32)
    """

    def __init__(self, parameters: Iterable[Tensor]):
        self.parameters = list(parameters)
        self.count = 0
        self._means = [BACKENDS[type(p.data)].full(p.shape, 0, p.dtype) for p in self.parameters]

    @property
    def means(self) -> list[np.ndarray]:
        """On the host; set, they go to where the parameters are."""
        return [BACKENDS[type(m)].to_numpy(m) for m in self._means]

    @means.setter
    def means(self, arrays: Iterable[np.ndarray]) -> None:
        self._means = [BACKENDS[type(p.data)].from_numpy(m) for p, m in zip(self.parameters, arrays)]

    def update(self) -> None:
        """Count the parameters as they are now."""
        self.count += 1
        for i, p in enumerate(self.parameters):
            mean = moved(self._means[i], p.data)
            self._means[i] = BACKENDS[type(p.data)].update("average", mean, p.data, [], [self.count])

    def apply(self) -> None:
        """Set the parameters to their means, once there are any."""
        if self.count:
            for p, mean in zip(self.parameters, self._means):
                p.data = moved(mean, p.data)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The means inside, what was there before behind."""
        before = [p.data for p in self.parameters]
        self.apply()
        try:
            yield
        finally:
            for p, data in zip(self.parameters, before):
                p.data = data
