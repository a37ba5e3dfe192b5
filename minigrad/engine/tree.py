"""Floor 3: nested containers of tensors: tuples, named tuples, lists, dicts and objects with attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any


def _children(tree: Any) -> Sequence[Any] | None:
    """The parts of a container, None for a leaf."""
    kind = type(tree)
    if kind is tuple or kind is list:
        return tree
    if isinstance(tree, (tuple, list)):
        return list(tree)
    if isinstance(tree, dict):
        return [tree[k] for k in sorted(tree)]
    if isinstance(tree, SimpleNamespace):
        return [v for _, v in sorted(vars(tree).items())]
    return None


def leaves(tree: Any) -> list[Any]:
    """The leaves from left to right; keys and attributes in sorted order; None is no leaf.

    >>> leaves({"b": (1, 2), "a": [3, None]})
    [3, 1, 2]
    """
    children = _children(tree)
    if children is None:
        return [] if tree is None else [tree]
    return [leaf for child in children for leaf in leaves(child)]


def rebuild(tree: Any, values: Iterable[Any]) -> Any:
    """The same containers with other leaves.

    >>> rebuild((1, [2, 3]), "abc")
    ('a', ['b', 'c'])
    """
    return _rebuild(tree, iter(values))


def _rebuild(tree: Any, values: Iterator[Any]) -> Any:
    children = _children(tree)
    if children is None:
        return None if tree is None else next(values)
    new = [_rebuild(child, values) for child in children]
    if isinstance(tree, dict):
        return dict(zip(sorted(tree), new))
    if isinstance(tree, SimpleNamespace):
        return SimpleNamespace(**dict(zip(sorted(vars(tree)), new)))
    if hasattr(tree, "_fields"):
        return type(tree)(*new)
    return type(tree)(new)


def structure(tree: Any) -> Any:
    """The containers without their leaves, as something that can be compared and hashed.

    >>> structure((1, [2])) == structure((3, [4])) != structure((1, (2,)))
    True
    """
    if isinstance(tree, dict):
        return "dict", tuple((k, structure(tree[k])) for k in sorted(tree))
    if isinstance(tree, SimpleNamespace):
        return "namespace", tuple((k, structure(v)) for k, v in sorted(vars(tree).items()))
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple([structure(part) for part in tree])
    return tree is None


def tree_map(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """f of corresponding leaves, in the containers of the first.

    >>> tree_map(lambda a, b: a + b, (1, [2]), (10, [20]))
    (11, [22])
    """
    return rebuild(tree, [f(*xs) for xs in zip(leaves(tree), *map(leaves, others), strict=True)])
