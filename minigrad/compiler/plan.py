"""Floor 4: where every value of a cell lies, and in which order a step computes.

Forward, over all steps: products of the input are taken out of the loop, one product for all T into the buffer of
their sum (z). In the loop, products of the state add to z, and between products runs of elementwise functions become
row functions (``rows.py``). Kept for backward: every z, or in its place the gate that was made of it, every state,
operands of products that were computed, and numbers that came from a reduction; all the rest is computed again there,
which costs less than storing it. A product with a memory, a matrix of each member's own, stays in the loop.

Backward, from the last step: row functions compute the cotangents of the products (d, kept for all steps), and
products with the weights carry them to the state before. After the loop, one product each gives the cotangent of the
input and of every weight, and one for each member that of a memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from minigrad import scalars
from minigrad.compiler.graph import LEAVES, MEMORY, Matrix, Value, below, number, terms
from minigrad.compiler.reader import Gradient
from minigrad.compiler.trace import CellGraph

_CHEAP = {scalars.add, scalars.sub, scalars.mul, scalars.neg, scalars.square, scalars.relu, scalars.step, scalars.abs,
          scalars.maximum, scalars.minimum, scalars.where, scalars.share}  # fmt: skip


class Buffer(NamedTuple):
    """Memory of rows. ``rows`` says which: "time" (one for each step and member), "before" and "after" (a state in
    time, initial rows and all), "member" (one for each member: a state that no step changes), "in" and "out" (the
    cotangent of a state, carried), "step" (reused by each step), "one" (the same for all), "worker" (one for each)."""

    name: str
    width: int
    rows: str


class Place(NamedTuple):
    """A value in a buffer, from column ``start`` on, or from where the slice ``part`` begins."""

    buffer: Buffer
    part: Value | None = None
    start: int = 0

    @property
    def column(self) -> int:
        return self.part.offset if self.part is not None else self.start


def all_rows(place: Place) -> str:
    """The name under which a call gives the rows of a value for all steps, one behind another."""
    name = place.buffer.name
    return name if place.buffer.rows == "time" else f"rows_{name}"


class Store(NamedTuple):
    value: Value
    place: Place
    add: bool = False


class Product(NamedTuple):
    """``to`` = or += operand times matrix: in the loop of one step, or of all rows at once."""

    operand: Place
    matrix: Matrix
    to: Place
    add: bool


class WeightGradient(NamedTuple):
    """parameter[start : start + k] = (or +=, with ``add``) a^T g over all rows, a of width k and g of width n, turned
    if so; without a the sum of the workers' rows of g."""

    parameter: int
    a: Place | None
    g: Place
    start: int
    k: int
    n: int
    turned: bool
    add: bool


class MemoryGradient(NamedTuple):
    """state += a^T g over the steps of each member, a of width k and g of width n."""

    state: int
    a: Place
    g: Place
    k: int
    n: int


@dataclass
class Pass:
    """The loop of one direction. A step runs the events in order: a product, or the stores of one row function."""

    stores: list[Store] = field(default_factory=list)
    events: list[Product | list[Store]] = field(default_factory=list)
    ready: list[set[int]] = field(default_factory=list)  # values stored before each event

    def schedule(self, stage: _Stages, products: list[tuple[int, list[Product]]]) -> None:
        """Stage by stage, products first."""
        last = max([stage(t.value) for t in self.stores] + [s for s, _ in products], default=0)
        done: set[int] = set()
        for s in range(last + 1):
            for at, found in products:
                if at == s:
                    self.events += found
                    self.ready += [set()] * len(found)
            mine = [t for t in self.stores if stage(t.value) == s]
            if mine:
                self.events.append(mine)
                self.ready.append(set(done))
                done |= {t.value.number for t in mine if not t.add}


class Plan:
    """The schedule of a cell: two loops, and the products before and after them."""

    def __init__(self, cell: CellGraph):
        self.cell = cell
        self.buffers: dict[str, Buffer] = {}
        self.placed: dict[int, Place] = {}  # values that the loops store
        self.hoisted: list[Product] = []
        self.late: list[Product] = []
        self.gradients: list[WeightGradient] = []
        self.memories: list[MemoryGradient] = []
        self.fixed = [v.kind == "state" and v.attr == k for k, v in enumerate(cell.states)]  # no step changes them
        self.y_from: list[int | None] = []  # the state that a y is, which then needs no memory of its own
        self.forward, self.backward = Pass(), Pass()
        self._plan_forward()
        self._plan_backward()

    def buffer(self, name: str, width: int, rows: str) -> Buffer:
        return self.buffers.setdefault(name, Buffer(name, max(width, 1), rows))

    def leaf(self, v: Value) -> Place | None:
        """Where a leaf, a product or a slice of one lies; None for what must be computed."""
        base = v.base
        part = v if v.kind == "slice" else None
        if base.kind == "product":
            if base.number >= self.cell.forward_size:
                return Place(self.buffer(f"t{base.number}", base.width, "step"), part)
            return Place(self.buffer(f"z{base.number}", base.width, "time"), part)
        names = {"x": ("x", "time"), "state": ("before", "before"), "vector": ("p", "one"), "scalar": ("p", "one"),
                 "gy": ("gy", "time"), "gs": ("in", "in")}  # fmt: skip
        if base.kind not in names:
            return None
        prefix, rows = names[base.kind]
        if base.kind == "state" and self.fixed[base.attr]:
            rows = "member"
        return Place(self.buffer(f"{prefix}{base.attr}", base.width, rows), part)

    def places(self, work: Pass, ready: set[int]) -> Callable[[Value], Place | None]:
        """Where a value lies before an event of ``work``, for which those values are ``ready``; None if nowhere."""
        later = {t.value.number for t in work.stores if not t.add} if work is self.backward else None

        def place(v: Value) -> Place | None:
            if v.base.kind in MEMORY:
                return self.leaf(v)
            there = v.number in ready or (later is not None and v.number not in later)
            return self.placed.get(v.number) if there else None

        return place

    def memory(self, k: int) -> Buffer:
        """Of a state that is a matrix for each member."""
        return self.buffer(f"before{k}", self.cell.states[k].width, "member")

    def _put(self, stores: list[Store], v: Value, buffer: Buffer, add: bool = False, last: bool = True) -> Place:
        """Store a value, a joined row part by part. It is found there from then on, if this is the ``last`` that the
        buffer receives."""
        start = 0
        for part in v.inputs if v.kind == "concat" else (v,):
            place = Place(buffer, None, start)
            stores.append(Store(part, place, add))
            if last and not add and part.base.kind not in MEMORY:  # what lies in memory is read where it is
                self.placed.setdefault(part.number, place)
            start += part.width
        if last and not add and v.base.kind not in MEMORY:
            self.placed.setdefault(v.number, Place(buffer))
        return Place(buffer)

    # ------------------------------------------------------------------ forward

    def _plan_forward(self) -> None:
        cell, stores = self.cell, self.forward.stores
        for k, v in enumerate(cell.states):
            if not self.fixed[k]:
                self._put(stores, v, self.buffer(f"after{k}", v.width, "after"))
        for j, y in enumerate(cell.ys):
            same = [k for k, s in enumerate(cell.states) if s is y and not self.fixed[k]]
            self.y_from.append(same[0] if same else None)
            if not same:
                self._put(stores, y, self.buffer(f"y{j}", y.width, "time"))
        values = below([*cell.states, *cell.ys])
        products = [v for v in values if v.kind == "product"]
        for p in products:
            for operand in p.inputs:
                if operand.base.kind not in MEMORY and not self._in_time(operand):
                    buffer = self.buffer(f"a{operand.number}", operand.width, "time")
                    self.placed[operand.number] = self._put(stores, operand, buffer)
        self._keep_in_place(products)
        in_forward = {v.number for v in values}
        for v in below(self._gradient_values()):
            if v.kind in ("row_sum", "row_max") and v.number in in_forward:
                self._put(stores, v, self.buffer(f"r{v.number}", 1, "time"))
        stage = _Stages(lambda p: [o for o in p.inputs if o.base.kind not in LEAVES])
        self.forward.schedule(stage, [(stage(p), self._forward_products(p)) for p in products])

    def _keep_in_place(self, products: list[Value]) -> None:
        """Where all that is wanted of a part of z is some function of it, such as a gate's sigmoid, that takes its
        place: backward need not compute it again, and it costs no memory."""
        everything = below([*self.cell.states, *self.cell.ys, *self._gradient_values()])
        users: dict[int, list[Value]] = {}
        for v in everything:
            for i in {i.number: i for i in v.inputs}.values():
                users.setdefault(i.number, []).append(v)
        roots = [part for v in (*self.cell.states, *self.cell.ys) for part in (v.inputs if v.kind == "concat" else [v])]
        results = {part.base.number for part in roots}
        for p in products:
            if p.number in results:  # somebody reads z itself
                continue
            parts = [v for v in users.get(p.number, []) if v.kind == "slice"]
            if len(parts) < len(users.get(p.number, [])):
                parts = [] if parts else [p]
            parts.sort(key=lambda v: v.offset)
            if any(a.offset + a.width > b.offset for a, b in zip(parts, parts[1:])):
                continue
            for part in parts:
                v, costly = part, False
                while len(users.get(v.number, [])) == 1:
                    (user,) = users[v.number]
                    if user.kind != "elementwise" or user.width != v.width or user.number >= self.cell.forward_size:
                        break
                    v, costly = user, costly or user.attr not in _CHEAP
                place = self.leaf(part)
                if costly and v.number not in self.placed and place is not None:
                    self.forward.stores.append(Store(v, place))
                    self.placed[v.number] = place

    def _in_time(self, v: Value) -> bool:
        return v.number in self.placed and self.placed[v.number].buffer.rows in ("time", "after")

    def _gradient_values(self) -> list[Value]:
        found = [v for v in (*self.cell.d_states, *self.cell.d_xs) if v]
        for gradient in self.cell.d_params:
            found += [t.g for t in gradient.terms] if gradient else []
        for memory in self.cell.d_memories.values():
            found += [v for t in memory for v in (t.a, t.g) if v]
        return found

    def _forward_products(self, p: Value) -> list[Product]:
        """Those that stay in the loop; products of the input with a weight go to ``hoisted``."""
        to = self.leaf(p)
        assert to is not None
        early = [o.base.kind == "x" and not m.memory for o, m in zip(p.inputs, p.attr)]
        looped: list[Product] = []
        first = True
        for ahead, operand, matrix in sorted(zip(early, p.inputs, p.attr), key=lambda product: not product[0]):
            found = Product(self._where(operand), matrix, to, not first)
            (self.hoisted if ahead else looped).append(found)
            first = False
        return looped

    def _where(self, v: Value) -> Place:
        place = self.placed.get(v.number) or self.leaf(v)
        assert place is not None, v
        return place

    # ------------------------------------------------------------------ backward

    def _plan_backward(self) -> None:
        cell = self.cell
        uses: dict[int, int] = {}
        for v in below(self._gradient_values()):
            for i in v.inputs:
                uses[i.number] = uses.get(i.number, 0) + 1
        self._looped: dict[int, Value] = {}  # products whose result a row function reads
        taken: set[int] = set()

        def cotangent(d: Value, to: Buffer, late: bool = False) -> tuple[list[Value], list[Product]]:
            """Put a sum into a buffer: products that nothing else needs go there directly, the rest is stored before.
            Returns what the products wait for, and the products, which run behind the loop if ``late``."""
            own = [t for t in terms(d) if t.kind == "product" and t.number not in taken and uses.get(t.number, 0) <= 1
                   and t.number >= cell.forward_size and not (late and any(m.memory for m in t.attr))]  # fmt: skip
            taken.update(t.number for t in own)
            rest = [t for t in terms(d) if all(t is not o for o in own)]
            if rest:
                self._emit(self._sum(rest), to, last=not own)
            found = [Product(self._keep(o), m, Place(to), True) for p in own for o, m in zip(p.inputs, p.attr)]
            if found and not rest:
                found[0] = found[0]._replace(add=False)
            return own + rest, found

        carried = [cotangent(d, self.buffer(f"out{k}", d.width, "out")) for k, d in enumerate(cell.d_states) if d]
        for i, d in enumerate(cell.d_xs):
            self.late += cotangent(d, self.buffer(f"dx{i}", d.width, "time"), late=True)[1]
        for k, found in cell.d_memories.items():
            for a, g in [(t.a, t.g) for t in found if t.a and number(t.g) != 0]:
                self.memories.append(MemoryGradient(k, self._keep(a), self._keep(g), a.width, g.width))
        for i, gradient in enumerate(cell.d_params):
            if gradient is not None:
                self._parameter(i, gradient)
        stage = _Stages(lambda p: p.inputs if p.number >= cell.forward_size else ())
        products = [(stage(p), self._looped_products(p)) for p in self._looped.values()]
        for waits, found in carried:
            if found:
                products.append((max(stage(v) + (v.kind != "product") for v in waits), found))
        self.backward.schedule(stage, products)

    def _emit(self, v: Value, buffer: Buffer, add: bool = False, last: bool = True) -> Place:
        """A store of the backward loop; products that the value needs join the loop."""
        self._need(v)
        return self._put(self.backward.stores, v, buffer, add, last)

    def _need(self, v: Value) -> None:
        for p in below([v]):
            if p.kind == "product" and p.number >= self.cell.forward_size and p.number not in self._looped:
                self._looped[p.number] = p
                for operand in p.inputs:
                    self._keep(operand)

    def _keep(self, v: Value) -> Place:
        """The value in memory, for all steps."""
        if self._in_time(v):
            return self.placed[v.number]
        place = self.leaf(v)
        if place is not None and place.buffer.rows in ("time", "before", "member"):
            return place
        found = self._emit(v, self.buffer(f"d{v.number}", v.width, "time"))
        self.placed[v.number] = found
        return found

    def _looped_products(self, p: Value) -> list[Product]:
        to = self.leaf(p)
        assert to is not None
        return [Product(self._keep(o), m, to, i > 0) for i, (o, m) in enumerate(zip(p.inputs, p.attr))]

    def _sum(self, parts: list[Value]) -> Value:
        total = parts[0]
        for part in parts[1:]:
            total = self.cell.graph.elementwise(scalars.add, total, part)
        return total

    def _parameter(self, i: int, gradient: Gradient) -> None:
        shape = self.cell.parameters[i]
        terms = [t for t in gradient.terms if number(t.g) != 0]
        products = [t for t in terms if t.a is not None]
        for term in terms:
            if term.a is None:
                buffer = self.buffer(f"sum{i}", term.g.width, "worker")
                self._emit(term.g, buffer, add=True)
                if all(w.parameter != i for w in self.gradients):
                    self.gradients.append(WeightGradient(i, None, Place(buffer), 0, 0, 0, gradient.turned, True))
        for term in products:
            assert term.a is not None
            rows = shape[-1] if gradient.turned else shape[0]
            a, g, k = self._where(term.a), self._keep(term.g), term.a.width
            add = term is not products[0] or k < rows
            self.gradients.append(WeightGradient(i, a, g, term.start, k, term.g.width, gradient.turned, add))


class _Stages:
    """The stage of a value: how many products in the loop, one after another, must have run before it is computed.

    ``waits`` gives the operands of a product that are computed in the loop.
    """

    def __init__(self, waits: Callable[[Value], Iterable[Value]]):
        self.waits = waits
        self.known: dict[int, int] = {}

    def __call__(self, v: Value) -> int:
        for x in below([v]):
            if x.number not in self.known:
                if x.kind == "product":
                    self.known[x.number] = max([self.known[o.number] + 1 for o in self.waits(x)], default=0)
                else:
                    self.known[x.number] = max([self.known[i.number] for i in x.inputs], default=0)
        return self.known[v.number]
