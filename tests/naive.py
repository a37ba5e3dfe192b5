"""A second engine, as naive as can be: derivatives are sums over all paths, by recursion, without any memory.

A value is a NumPy array and, for each operand, the rule that takes a cotangent down to it. Rules are written in the
same operations, so derivatives can be differentiated again. ``minigrad.engine`` must agree with it.
"""

import numpy as np


class Value:
    """``unit`` is what one use of an operation shares: the several results of ``unstack`` have one."""

    def __init__(self, array, operands=(), live=True, unit=None):
        self.array = np.asarray(array, np.float64)
        self.operands = [(x, rule) for x, rule in operands if x.live]
        self.live = live if not operands else live and bool(self.operands)  # a derivative may flow into it
        self.unit = unit or self
        self.paths = max(1, sum(x.paths for x, _ in self.operands))


def add(a, b):
    return Value(a.array + b.array, [(a, lambda g: sum_to(g, a)), (b, lambda g: sum_to(g, b))])


def mul(a, b):
    return Value(a.array * b.array, [(a, lambda g: sum_to(mul(g, b), a)), (b, lambda g: sum_to(mul(g, a), b))])


def sin(a):
    return Value(np.sin(a.array), [(a, lambda g: mul(g, cos(a)))])


def cos(a):
    return Value(np.cos(a.array), [(a, lambda g: mul(g, mul(Value(-1.0, live=False), sin(a))))])


def sum_to(g, like):
    """The sum over what broadcasting stretched."""
    shape, extra = like.array.shape, g.array.ndim - like.array.ndim
    total = g.array.sum(tuple(range(extra)))
    axes = tuple(i for i, n in enumerate(shape) if n == 1)
    return Value(total.sum(axes, keepdims=True), [(g, lambda h: spread(h, g))])


def spread(g, like):
    return Value(np.broadcast_to(g.array, like.array.shape), [(g, lambda h: sum_to(h, g))])


def unstack(a):
    unit = object()
    n = len(a.array)
    return [Value(a.array[i], [(a, lambda g, i=i: place(g, i, n))], unit=unit) for i in range(n)]


def place(g, i, n):
    array = np.zeros((n, *g.array.shape))
    array[i] = g.array
    return Value(array, [(g, lambda h: unstack(h)[i])])


def derivative(y, x, g):
    """The cotangent of x for the cotangent g of y: the sum over all paths from y down to x; None without a path."""
    found = [g] if y is x else []
    for operand, rule in y.operands:
        below = derivative(operand, x, rule(g))
        found += [below] if below is not None else []
    if not found:
        return None
    total = found[0]
    for term in found[1:]:
        total = add(total, term)
    return total


def units_below(y):
    """The uses of operations that y depends on."""
    found = {y.unit} if y.operands else set()
    return found.union(*[units_below(x) for x, _ in y.operands])
