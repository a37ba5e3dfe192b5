"""Floor 4: row functions: what happens to one row between products, as loops over its numbers.

Values of one width are computed in one loop, so that they vectorise together and live in registers; a sum over
the row ends a loop, and what a later loop needs again is kept in a row of the worker's own. No size is written into
the text: widths, offsets and constants are arguments, so cells that differ only in sizes share one compiled kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from minigrad.compiler.graph import Value
from minigrad.compiler.plan import Buffer, Place, Store


class Slots:
    """Numbers that the text refers to by name: sizes in one table, constants in another."""

    constant_name = "k[{}]"

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.constants: list[float] = []
        self._known: dict[tuple, str] = {}

    def size(self, key: tuple, value: int) -> str:
        if key not in self._known:
            self._known[key] = f"n{sum(known.startswith('n') for known in self._known.values())}"
            self.sizes[self._known[key]] = value
        return self._known[key]

    def named(self, name: str, value: int) -> str:
        """A size under a name of its own."""
        self.sizes[name] = value
        return name

    def constant(self, v: Value) -> str:
        key = ("constant", v.number)
        if key not in self._known:
            self._known[key] = self.constant_name.format(len(self.constants))
            self.constants.append(v.attr)
        return self._known[key]

    def column(self, place: Place) -> str:
        """The first column of a place; "" where that is 0."""
        if place.column == 0:
            return ""
        return self.size(("column", place.part.number if place.part is not None else place), place.column)


def over_row(stores: list[Store], place: Callable[[Value], Place | None]) -> list[Value]:
    """The sums and maxima over the row that stores need, of what lies nowhere yet."""
    found: dict[int, Value] = {}
    stack, seen = [t.value for t in stores], set()
    while stack:
        v = stack.pop()
        if v.number in seen or place(v) is not None:
            continue
        seen.add(v.number)
        if v.kind in ("row_sum", "row_max"):
            found[v.number] = v
        stack += v.inputs
    return [found[n] for n in sorted(found)]


class RowFunction:
    """The text of one row function. ``place(value)`` says where a value lies before it runs, None if nowhere."""

    def __init__(self, name: str, stores: list[Store], place: Callable[[Value], Place | None], slots: Slots):
        self.name, self.place, self.slots = name, place, slots
        self.blocks: list[list[str]] = []  # a line, or a loop
        self.arrays: dict[str, Place] = {}  # arguments
        self._names: dict[tuple, str] = {}
        self.sizes: dict[str, None] = {}
        self.functions: dict[str, Callable] = {}
        self._single: dict[int, str] = {}  # names of single numbers
        self._stored: dict[int, Place] = {}  # by an earlier loop of this function
        self._computed: dict[int, list[str]] = {}  # and not stored: the block of that loop
        self._levels: dict[int, int] = {}
        self._write(stores)

    # ------------------------------------------------------------------ which loops

    def _level(self, v: Value) -> int:
        """How many sums over the row must come before v."""
        if v.number not in self._levels:
            if v.kind == "constant" or self.place(v) is not None:
                level = 0
            else:
                level = max([self._level(i) for i in v.inputs], default=0) + (v.kind in ("row_sum", "row_max"))
            self._levels[v.number] = level
        return self._levels[v.number]

    def _write(self, stores: list[Store]) -> None:
        loops: dict[tuple[int, int], tuple[list[Value], list[Store]]] = {}
        for v in over_row(stores, self.place):
            loops.setdefault((self._level(v) - 1, v.inputs[0].width), ([], []))[0].append(v)
        for t in stores:
            loops.setdefault((self._level(t.value), t.value.width), ([], []))[1].append(t)
        for level, width in sorted(loops, key=lambda loop: loop[0]):  # not by width: sizes must not change the text
            reductions, mine = loops[level, width]
            if width <= 1:
                self._write_single(mine)
            else:
                self._write_loop(width, reductions, mine)

    # ------------------------------------------------------------------ single numbers

    def _write_single(self, stores: list[Store]) -> None:
        for t in stores:
            value = self._number(t.value)
            self._line(self._store(t.place, "0", value, 1, t.add))

    def _number(self, v: Value) -> str:
        """A constant, a sum over the row, or what is computed of such: one number."""
        if v.kind == "constant":
            return self.slots.constant(v)
        if v.number in self._single:
            return self._single[v.number]
        place = self.place(v)
        if place is not None:
            text = self._load(place, "0", 1)
        elif v.kind == "spread":
            return self._number(v.inputs[0])
        else:
            text = self._call(v, [self._number(i) for i in v.inputs])
        name = self._single[v.number] = f"s{v.number}"
        self._line(f"{name} = {text}")
        return name

    def _line(self, text: str) -> None:
        self.blocks.append([text])

    def _call(self, v: Value, arguments: list[str]) -> str:
        self.functions[v.attr.__name__] = v.attr
        return f"{v.attr.__name__}({', '.join(arguments)})"

    # ------------------------------------------------------------------ loops

    def _write_loop(self, width: int, reductions: list[Value], stores: list[Store]) -> None:
        body: list[str] = []
        names: dict[int, str] = {}
        made: list[int] = []

        def value(v: Value) -> str:
            if v.width <= 1:
                return self._number(v)
            if v.number in names:
                return names[v.number]
            place = self.place(v) or self._stored.get(v.number) or self._again(v)
            if place is None and v.kind == "spread":
                return self._number(v.inputs[0])
            text = self._load(place, "j", v.width) if place else self._call(v, [value(i) for i in v.inputs])
            name = names[v.number] = f"v{v.number}"
            body.append(f"    {name} = {text}")
            if place is None:
                made.append(v.number)
            return name

        for v in reductions:
            operand = value(v.inputs[0])
            name = self._single[v.number] = f"s{v.number}"
            self._line(f"{name} = {'ZERO' if v.kind == 'row_sum' else '-INF'}")
            body.append(f"    {name} = {self._reduce(v, name, operand)}")
        for t in stores:
            text = value(t.value)
            body.append("    " + self._store(t.place, "j", text, width, t.add))
        for t in stores:
            if not t.add:
                self._stored.setdefault(t.value.number, t.place)
        block = [self._walk(self._size(("width", self.name, width), width)), *body]
        self.blocks.append(block)
        self._computed |= {n: block for n in made if n not in self._stored}

    def _again(self, v: Value) -> Place | None:
        """Where a value lies that an earlier loop computed: that loop now keeps it."""
        block = self._computed.pop(v.number, None)
        if block is None:
            return None
        place = self._stored[v.number] = Place(Buffer(f"k{self.name}_{v.number}", v.width, "worker"))
        block.append("    " + self._store(place, "j", f"v{v.number}", v.width, False))
        return place

    # ------------------------------------------------------------------ words, which another target has otherwise

    def _load(self, place: Place, j: str, width: int) -> str:
        return f"{self._array(place)}[{j}]"

    def _store(self, place: Place, j: str, value: str, width: int, add: bool) -> str:
        return f"{self._array(place)}[{j}] {'+=' if add else '='} {value}"

    def _walk(self, size: str) -> str:
        return f"for j in range({size}):"

    def _reduce(self, v: Value, total: str, operand: str) -> str:
        return f"{'fast_add' if v.kind == 'row_sum' else 'fast_max'}({total}, {operand})"

    # ------------------------------------------------------------------ names

    def _array(self, place: Place) -> str:
        """The argument for a place. Parts of one buffer are arguments of their own: then it is plain that they do not
        overlap, and the loop vectorises."""
        key = (place.buffer.name, place.column)
        if key not in self._names:
            parts = sum(name == place.buffer.name for name, column in self._names if column)
            name = f"{place.buffer.name}_{parts + 1}" if place.column else place.buffer.name
            self._names[key] = name
            self.arrays[name] = place
        return self._names[key]

    def _size(self, key: tuple, value: int) -> str:
        name = self.slots.size(key, value)
        self.sizes[name] = None
        return name

    def text(self) -> str:
        arguments = ", ".join([*self.arrays, *self.sizes, "k"])
        lines = [line for block in self.blocks for line in block] or ["pass"]
        return "\n".join(["@unit", f"def {self.name}({arguments}):", *["    " + line for line in lines]]) + "\n"
