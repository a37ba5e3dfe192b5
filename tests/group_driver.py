"""A compiled cell whose loops run as one kernel each on the emulated device, and whose products of all rows are NumPy's:
``GroupRun`` lets them be compared with the definition without the rest of the device's path."""

from types import SimpleNamespace

import numpy as np

from minigrad.compiler.arrays import HOST
from minigrad.compiler.cuda.group import GroupLoop, Shape
from minigrad.compiler.emit import all_rows
from minigrad.compiler.fused import _graph
from minigrad.compiler.plan import Plan
from minigrad.compiler.sequence import Given, Run, Sequence


class Everything:
    def __contains__(self, name):
        return True


class Arrays(Given):
    def __init__(self):
        self.arrays, self.widths = {}, {}

    def copy(self):
        found = Arrays()
        found.arrays = dict(self.arrays)
        return found

    def give(self, name, array):
        self.arrays[name] = array

    def give_rows(self, name, array, width):
        self.arrays[name] = np.zeros((1, width)) if array is None else array
        self.widths[f"w_{name}"] = 0 if array is None else width


class GroupKernel:
    """Of a call of ``scan``, with loops as in ``shape``."""

    def __init__(self, call, device, shape: Shape):
        graph = _graph(call)
        assert not isinstance(graph, str), graph
        self.plan, self.dtype, self.arrays, self.device, self.shape = (
            Plan(graph),
            call.groups[0][0].dtype,
            HOST,
            device,
            shape,
        )
        self.loops = {"forward": GroupLoop("forward", self.plan, self.plan.forward, False),
                      "backward": GroupLoop("backward", self.plan, self.plan.backward, True)}  # fmt: skip
        self.forward = self.backward = SimpleNamespace(given=Everything(), buffers=self.loops["backward"].buffers)
        self.y_widths, self.dx_widths = [v.width for v in graph.ys], [v.width for v in graph.d_xs]

    def workers(self, batch):
        return batch


class GroupRun(Run):
    def _nothing(self):
        return Arrays()

    def _matrix(self, m, given):
        p = given.arrays[f"p{m.index}"]
        p = p.T if m.turned else p
        return p[m.start : m.start + m.k]

    def _rows(self, place, width, given):
        return given.arrays[all_rows(place)][:, place.column : place.column + width]

    def _product(self, p, given):
        to = self._rows(p.to, p.matrix.n, given)
        found = self._rows(p.operand, p.matrix.k, given) @ self._matrix(p.matrix, given)
        to[...] = to + found if p.add else found

    def _call(self, direction, given, more):
        place, loop, arrays = self.layout, self.kernel.loops[direction], given.arrays
        if place.rows == 0:
            return
        hoisted, late = (self.plan.hoisted, []) if direction == "forward" else ([], self.plan.late)
        buffers = [*loop.buffers, *[p.to.buffer for p in hoisted]]
        for b in buffers:
            if b.name not in arrays:
                rows = place.rows if b.rows == "time" else place.batch
                arrays[b.name] = np.full((rows, b.width), np.nan, self.dtype)
        for p in hoisted:
            self._product(p, given)
        self._loop(loop, arrays, given.widths)
        for p in late:
            if arrays[p.to.buffer.name] is not None:
                self._product(p, given)
        if direction == "backward":
            self._gradients(given, more)
        yield from ()

    def _loop(self, loop, arrays, widths):
        device, shape, place = self.kernel.device, self.kernel.shape, self.layout
        lying = {}
        names = loop._pointers()
        for name in names:
            a = arrays[name]
            lying.setdefault(a.__array_interface__["data"][0], (device.put(a.astype(self.dtype)), a))
        at = {name: lying[arrays[name].__array_interface__["data"][0]][0] for name in names}
        loop.launch(device, shape, self.dtype, place.steps, place.batch, device.put(place.table), at, widths)
        for found, a in lying.values():
            if a.flags.writeable:
                a[...] = device.download(found)

    def _gradients(self, given, more):
        for d in self.plan.memories:
            to = given.arrays[f"d_memory{d.state}"]
            if to is not None:
                a, g = self._rows(d.a, d.k, given), self._rows(d.g, d.n, given)
                np.add.at(to.reshape(-1, d.k, d.n), self.layout.members, a[:, :, None] * g[:, None])
        for w in self.plan.gradients:
            to = given.arrays[f"d_p{w.parameter}"] if w.a is not None else None
            if to is not None:
                found = self._rows(w.a, w.k, given).T @ self._rows(w.g, w.n, given)
                to = (to.T if w.turned else to)[w.start : w.start + w.k]
                to[...] = to + found if w.add or more else found


class GroupSequence(Sequence):
    run = GroupRun


def drain(passes):
    while True:
        try:
            next(passes)
        except StopIteration as end:
            return end.value


def run(call, device, shape):
    """ys, final states, and a function from their cotangents to those of all inputs."""
    xs, states, params = ([np.array(t.data) for t in group] for group in call.groups)
    sequence = GroupSequence(
        GroupKernel(call, device, shape), xs, states, params, call.lengths, call.reverse, call.every
    )
    ys, final = drain(sequence.forward())
    wanted = [True] * sum(map(len, call.groups))
    return ys, final, lambda gys, gs: drain(sequence.backward(gys, gs, wanted))
