"""Floor 3: nested containers of tensors: tuples, named tuples, lists, dicts and objects with attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves from left to right (keys and attributes in sorted order; None is no leaf), and the containers without
    them, as something that can be compared and hashed.

    >>> flatten({"b": (1, 2), "a": [3, None]})[0]
    [3, 1, 2]
    >>> flatten((1, [2]))[1] == flatten((3, [4]))[1] != flatten((1, (2,)))[1]
    True
    """
    found: list[Any] = []
    return found, _flatten(tree, found)


def _flatten(tree: Any, found: list[Any]) -> Any:
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple([_flatten(part, found) for part in tree])
    if isinstance(tree, SimpleNamespace):
        return "namespace", tuple([(k, _flatten(v, found)) for k, v in sorted(vars(tree).items())])
    if isinstance(tree, dict):
        return "dict", tuple([(k, _flatten(tree[k], found)) for k in sorted(tree)])
    if tree is None:
        return None
    found.append(tree)
    return "leaf"


def leaves(tree: Any) -> list[Any]:
    """The leaves from left to right.

    >>> leaves((1, [2, None, {"x": 3}]))
    [1, 2, 3]
    """
    return flatten(tree)[0]


def rebuild(tree: Any, values: Iterable[Any]) -> Any:
    """The same containers with other leaves.

    >>> rebuild((1, [2, 3]), "abc")
    ('a', ['b', 'c'])
    """
    return _rebuild(tree, iter(values))


def _rebuild(tree: Any, values: Iterator[Any]) -> Any:
    if isinstance(tree, (tuple, list)):
        new = [_rebuild(child, values) for child in tree]
        return type(tree)(*new) if hasattr(tree, "_fields") else type(tree)(new)
    if isinstance(tree, SimpleNamespace):
        return SimpleNamespace(**{k: _rebuild(v, values) for k, v in sorted(vars(tree).items())})
    if isinstance(tree, dict):
        return {k: _rebuild(tree[k], values) for k in sorted(tree)}
    return None if tree is None else next(values)


def tree_map(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """f of corresponding leaves, in the containers of the first.

    >>> tree_map(lambda a, b: a + b, (1, [2]), (10, [20]))
    (11, [22])
    """
    return rebuild(tree, [f(*xs) for xs in zip(leaves(tree), *map(leaves, others), strict=True)])
