"""Floor 3: reverse mode: walk the tape from the result to the leaves, carrying cotangents.

For y = f(x) and a loss l, the cotangent of y is g = dl/dy (the shape of y). A rule turns it into the cotangent
of x, g dy/dx. A tensor that is used twice receives two cotangents; they are added up before it is passed,
which is why the order matters:

    b = a + a
    c = b + b        # b must have received both of its cotangents before b's own rule runs

The order comes from counting, for every node, how many uses of it have not yet been passed. There is no
recursion: 300 steps of a recurrent network would exhaust Python's stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from minigrad.engine import anomaly
from minigrad.engine.tape import Node, checks_anomalies, is_recording, recording
from minigrad.engine.tensor import Tensor, check_cotangent, tensor
from minigrad.errors import GraphError, describe
from minigrad.kernels import BACKENDS


class Basis(NamedTuple):
    """What the engine must be able to do with cotangents; the operations above supply it by ``install``."""

    add: Callable[[Tensor, Tensor], Tensor]
    sum_to: Callable[[Tensor, tuple[int, ...]], Tensor]  # undo broadcasting
    stack: Callable[[Sequence[Tensor]], Tensor]
    reshape: Callable[[Tensor, tuple[int, ...]], Tensor]


_basis: Basis


def install(basis: Basis) -> None:
    global _basis
    _basis = basis


def basis() -> Basis:
    return _basis


Key = Node | Tensor  # a node stands for its results, a leaf for itself


def key(x: Tensor) -> Key:
    return x.node if x.node is not None else x


def _inputs(node: Node) -> tuple[Tensor, ...]:
    if node.inputs is None:
        got = f"the graph of '{node.op.name}', which was freed by an earlier backward"
        raise GraphError(describe("backward", got, "a live graph", "pass retain_graph=True the first time"))
    return node.inputs


def toposort(roots: Iterable[Key], stop: frozenset[Key] = frozenset()) -> list[Key]:
    """Nodes and leaves below ``roots``, each after all its users; nothing below ``stop``."""
    start = list(dict.fromkeys(roots))
    uses: dict[Key, int] = {}
    stack = list(start)
    while stack:  # count the uses of everything
        k = stack.pop()
        if k in uses:
            uses[k] += 1
        else:
            uses[k] = 1
            if type(k) is Node and k not in stop:
                for x in _inputs(k):
                    if x.requires_grad:
                        stack.append(x.node or x)
    for k in start:  # being a root is no use
        uses[k] -= 1
    order: list[Key] = []
    ready = [k for k in start if not uses[k]]
    while ready:  # pass on what has no use left
        k = ready.pop()
        order.append(k)
        if type(k) is Node and k not in stop:
            for x in _inputs(k):
                if x.requires_grad:
                    below = x.node or x
                    uses[below] -= 1
                    if not uses[below]:
                        ready.append(below)
    return order


def _accumulate(cotangents: dict[Key, Any], x: Tensor, g: Tensor) -> None:
    """Add g to the cotangent of x; a node of several results has a list of them."""
    k = x.node or x
    if type(k) is Node and type(k.out) is tuple:
        slots = cotangents.setdefault(k, [None] * len(k.out))
        slots[x.index] = g if slots[x.index] is None else _basis.add(slots[x.index], g)
    else:
        before = cotangents.get(k)
        cotangents[k] = g if before is None else _basis.add(before, g)


def _pull(node: Node, g: Any, cotangents: dict[Key, Any], useful: set[Key] | None, record: bool, check: bool) -> None:
    """Run a node's rules and hand the results to its inputs."""
    inputs, arrays, rules, attrs = _inputs(node), node.arrays, node.op.vjp, node.attrs
    for x, array in zip(inputs, arrays):
        if x.data is not array:
            got = f"an input of '{node.op.name}' whose data was replaced after the forward pass"
            raise GraphError(describe("backward", got, "the data of then", "call backward before optimizer.step()"))
    g = tuple(g) if type(g) is list else g
    together = None if type(rules) is tuple else _all_of(node, rules(g, node.result(), *inputs, **attrs))  # type: ignore[misc, operator]
    for i, x in enumerate(inputs):
        if not x.requires_grad or (useful is not None and key(x) not in useful):
            continue
        if together is not None:
            gx = together[i]
        else:
            rule = rules[i]  # type: ignore[index]
            if rule is None:
                continue
            found = None if record or not hasattr(rule, "arrays") else rule.arrays(g.data, node.out, arrays)
            gx = Tensor(found) if found is not None else rule(g, node.result(), *inputs, **attrs)
        if gx is None:
            continue
        if not isinstance(gx, Tensor):
            got = f"a {type(gx).__name__} for input {i}, by the rule of '{node.op.name}'"
            raise GraphError(describe("backward", got, "a Tensor or None", "write rules in minigrad's operations"))
        if gx.data.shape != x.data.shape:
            gx = _basis.sum_to(gx, x.data.shape)
        if check:
            anomaly.check_backward(node.op.name, i, inputs, gx, getattr(node, "where", ""))
        _accumulate(cotangents, x, gx)


def _all_of(node: Node, found: Any) -> Sequence[Any]:
    """What one rule for all inputs returned."""
    count = len(_inputs(node))
    if type(found) not in (tuple, list) or len(found) != count:
        got = f"{len(found)} cotangents" if type(found) in (tuple, list) else f"a {type(found).__name__}"
        do = "or give one rule for each input: vjp=(rule,)"
        raise GraphError(describe("backward", f"{got}, by the rule of '{node.op.name}'", f"a tuple of {count}", do))
    return found


def backward(y: Tensor, g: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """See ``Tensor.backward``."""
    if not y.requires_grad:
        do = "make an input with requires_grad=True, outside no_grad"
        raise GraphError(describe("backward", "a result that depends on nothing recorded", "a recorded result", do))
    g = seed(y, g)
    visited: list[Node] = []
    given: set[int] = {id(g.data)}
    check = checks_anomalies()
    with recording(create_graph):
        cotangents: dict[Key, Any] = {}
        _accumulate(cotangents, y, g)
        for k in toposort([key(y)]):
            g = cotangents.pop(k, None)
            if isinstance(k, Node):
                visited.append(k)
                if g is not None:
                    _pull(k, g, cotangents, None, create_graph, check)
            elif g is not None:
                _add_to_leaf(k, g, given)
    if not retain_graph:
        for node in visited:
            node.inputs = node.out = None
            node.arrays, node.attrs = [], {}


def seed(y: Tensor, g: Any = None) -> Tensor:
    """The cotangent to begin with: ``g``, or 1 for a scalar."""
    if g is None:
        if y.size != 1:
            do = "reduce it with .sum() or .mean(), or pass a cotangent: y.backward(g)"
            raise GraphError(describe("backward", f"a result of shape {y.shape}", "one element", do))
        return Tensor(BACKENDS[type(y.data)].full(y.shape, 1, y.dtype))
    g = g if isinstance(g, Tensor) else tensor(g, dtype=y.dtype, device=y.device)
    check_cotangent(g, y)
    return g


def _add_to_leaf(leaf: Tensor, g: Tensor, given: set[int]) -> None:
    """leaf.grad += g; no two gradients, and no gradient and cotangent, share memory."""
    if leaf.grad is not None:
        leaf.grad = _basis.add(leaf.grad, g)
        return
    if id(g.data) in given or getattr(g.data, "base", None) is not None:
        g = g if g.requires_grad else Tensor(BACKENDS[type(g.data)].from_numpy(g.data))
    given.add(id(g.data))
    leaf.grad = g


def pull_back(
    outputs: Sequence[Tensor],
    gs: Sequence[Tensor | None],
    wanted: Sequence[Tensor],
    *,
    create_graph: bool | None = None,
) -> list[Tensor | None]:
    """Cotangents of the tensors ``wanted`` (None where the outputs do not depend on one).

    The pass is recorded if something else that it depends on waits for a derivative, unless
    ``create_graph`` says.
    """
    roots = [(y, g) for y, g in zip(outputs, gs) if g is not None and y.requires_grad]
    stop = frozenset(key(x) for x in wanted)
    order = toposort([key(y) for y, _ in roots], stop)
    if create_graph is None:
        waiting = any(isinstance(k, Tensor) and k not in stop for k in order)
        below = any(isinstance(k, Node) and any(x.requires_grad for x in _inputs(k)) for k in stop)
        create_graph = waiting or below or any(g.requires_grad for _, g in roots)
        create_graph = create_graph and is_recording()
    useful: set[Key] = set(stop)
    for k in reversed(order):
        if isinstance(k, Node) and k not in stop and any(x.requires_grad and key(x) in useful for x in _inputs(k)):
            useful.add(k)
    check = checks_anomalies()
    with recording(create_graph):
        cotangents: dict[Key, Any] = {}
        for y, g in roots:
            _accumulate(cotangents, y, g)
        for k in order:
            if k in useful and k not in stop and k in cotangents:
                _pull(k, cotangents.pop(k), cotangents, useful, create_graph, check)  # type: ignore[arg-type]
    result: list[Tensor | None] = []
    for x in wanted:
        found = cotangents.get(key(x))
        result.append(found[x.index] if isinstance(found, list) else found)
    return result


def by_definition(
    outputs: Sequence[Tensor], gs: Sequence[Tensor | None], inputs: Sequence[Tensor]
) -> list[Tensor | None]:
    """For the rule of a fused operation whose derivative is recorded: the cotangents of its inputs, by differentiating
    ``outputs`` of its definition. A tensor that is two of the inputs has one cotangent, which goes to the first."""
    found = pull_back(outputs, gs, inputs, create_graph=True)
    return [None if any(x is other for other in inputs[:i]) else d for i, (x, d) in enumerate(zip(inputs, found))]
