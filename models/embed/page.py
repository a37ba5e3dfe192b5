"""Floor 7: words in the plane as one HTML file that needs no other: pan, zoom, look for a word, see its neighbours."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<title>@title</title>
<style>
  :root { color-scheme: light dark; --back: #ffffff; --text: #1c1c1c; --faint: #8a8a8a; --dot: #0072B2; --hot: #D55E00 }
  @media (prefers-color-scheme: dark) {
    :root { --back: #16181b; --text: #e6e6e6; --faint: #80868c; --dot: #56B4E9; --hot: #E69F00 }
  }
  html, body { margin: 0; height: 100%; overflow: hidden; background: var(--back); color: var(--text);
    font: 14px/1.4 system-ui, sans-serif }
  canvas { position: fixed; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: grab }
  header, aside { position: fixed; padding: 8px 12px; border-radius: 6px;
    background: color-mix(in srgb, var(--back) 88%, transparent); box-shadow: 0 1px 5px #0004 }
  header { top: 10px; left: 10px; max-width: calc(100% - 44px) }
  h1 { font-size: 14px; margin: 0 0 6px; overflow-wrap: anywhere }
  input { font: inherit; width: 11em; padding: 2px 6px }
  aside { right: 10px; bottom: 10px; min-width: 11em; max-width: 20em; pointer-events: none }
  aside:empty { display: none }
  b, td { overflow-wrap: anywhere }
  td + td { text-align: right; padding-left: 1.5em; font-variant-numeric: tabular-nums }
  small { color: var(--faint) }
</style>
</head>
<body>
<canvas aria-label="A map of words"></canvas>
<header><h1>@title</h1>
<label>Find <input type="search" autocomplete="off" spellcheck="false"></label> <small id="found"></small><br>
<small>drag to move, wheel to zoom, double click to see all</small></header>
<aside></aside>
<script type="application/json" id="data">@data</script>
<script>
"use strict";
const { words, points, near } = JSON.parse(document.getElementById("data").textContent);
const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d");
const aside = document.querySelector("aside"), search = document.querySelector("input");
const found = document.getElementById("found");
let scale = 1, left = 0, top_ = 0, hot = -1, matches = new Set(), boxes = [], whole = true, asked = false;
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name);
const x = i => left + scale * points[i][0], y = i => top_ - scale * points[i][1];

function fit() {  // all points in the window
  const xs = points.map(p => p[0]), ys = points.map(p => p[1]);
  const [a, b, c, d] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const w = innerWidth, h = innerHeight;
  scale = Math.min((w - 160) / (b - a || 1), (h - 190) / (d - c || 1));
  scale = Math.max(scale, 1e-9);
  left = w / 2 - scale * (a + b) / 2;
  top_ = h / 2 + 45 + scale * (c + d) / 2;
  whole = true;
}

function draw() {
  asked = false;
  const w = innerWidth, h = innerHeight, ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    if (whole) fit();
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  const dot = colour("--dot"), bright = colour("--hot"), text = colour("--text"), back = colour("--back");
  const close = new Set(hot < 0 ? [] : near[hot].map(n => n[0]));
  pen.strokeStyle = bright;
  for (const j of close) {
    pen.beginPath(); pen.moveTo(x(hot), y(hot)); pen.lineTo(x(j), y(j)); pen.stroke();
  }
  const special = i => i === hot || close.has(i) || matches.has(i);
  const faded = hot >= 0 || matches.size > 0;
  const inside = i => x(i) > -200 && x(i) < w + 20 && y(i) > -20 && y(i) < h + 20;
  const seen = words.map((_, i) => i).filter(inside);
  const order = [...seen.filter(i => i === hot), ...seen.filter(i => i !== hot && special(i)),
                 ...seen.filter(i => !special(i))];
  for (const i of order) {
    pen.globalAlpha = faded && !special(i) ? 0.35 : 0.85;
    pen.fillStyle = special(i) ? bright : dot;
    pen.beginPath(); pen.arc(x(i), y(i), special(i) ? 4.5 : 3, 0, 7); pen.fill();
  }
  boxes = [];
  const dots = seen.length > 1000 ? [] : seen;  // those that names do not cover
  for (const i of order) {  // the first words first; a name that would cover another waits for a closer look
    pen.font = (special(i) ? "bold " : "") + "13px system-ui, sans-serif";
    const a = x(i), b = y(i), long = pen.measureText(words[i]).width;
    const rest = dots.map(j => [x(j), y(j)]).filter(([c, d]) => Math.abs(c - a) + Math.abs(d - b) > 5);
    const free = q => !boxes.some(o => q[0] < o[2] && o[0] < q[2] && q[1] < o[3] && o[1] < q[3])
      && !rest.some(([c, d]) => q[0] < c + 2 && c - 2 < q[2] && q[1] < d + 2 && d - 2 < q[3]);
    const places = [[a + 6, b], [a - long - 6, b], [a - long / 2, b - 13], [a - long / 2, b + 13]]
      .map(([l, m]) => [l - 1, m - 8, l + long + 1, m + 8, i]);
    const box = places.find(free) ?? (i === hot ? places[0] : null);
    if (!box) continue;
    boxes.push(box);
    pen.globalAlpha = faded && !special(i) ? 0.35 : 1;
    pen.lineWidth = 3; pen.lineJoin = "round"; pen.strokeStyle = back; pen.fillStyle = text;
    pen.strokeText(words[i], box[0] + 1, box[1] + 12.5);
    pen.fillText(words[i], box[0] + 1, box[1] + 12.5);
    pen.lineWidth = 1;
  }
  pen.globalAlpha = 1;
}

function redraw() { if (!asked) { asked = true; requestAnimationFrame(draw); } }

function zoom(factor, at, from) {
  left = at - (at - left) * factor;
  top_ = from - (from - top_) * factor;
  scale *= factor;
  whole = false;
  redraw();
}

function under(a, b) {  // the word whose dot or name is at a place of the window, -1 if none
  let best = -1, least = 14 * 14;
  for (let i = 0; i < points.length; i++) {
    const d = (x(i) - a) ** 2 + (y(i) - b) ** 2;
    if (d < least) { least = d; best = i; }
  }
  const box = boxes.find(q => q[0] <= a && a <= q[2] && q[1] <= b && b <= q[3]);
  return box && least > 25 ? box[4] : best;
}

function show(i) {
  if (i === hot) return;
  hot = i;
  aside.replaceChildren();
  if (i >= 0) {
    const name = document.createElement("b"), table = document.createElement("table");
    name.textContent = words[i];
    for (const [j, cosine] of near[i]) {
      const row = table.insertRow();
      row.insertCell().textContent = words[j];
      row.insertCell().textContent = cosine.toFixed(3);
    }
    const note = document.createElement("small");
    note.textContent = "nearest of the words drawn, by cosine";
    aside.append(name, ...(near[i].length ? [table, note] : []));
  }
  redraw();
}

const held = new Map();  // the pointers that are down
canvas.addEventListener("pointerdown", e => {
  held.set(e.pointerId, e);
  canvas.setPointerCapture(e.pointerId);
  if (e.pointerType === "touch") show(under(e.clientX, e.clientY));
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, e => held.delete(e.pointerId));
canvas.addEventListener("pointermove", e => {
  const before = held.get(e.pointerId);
  if (!before) return show(under(e.clientX, e.clientY));
  held.set(e.pointerId, e);
  left += (e.clientX - before.clientX) / held.size;
  top_ += (e.clientY - before.clientY) / held.size;
  whole = false;
  const other = [...held.values()].find(o => o.pointerId !== e.pointerId);
  if (other) {  // two fingers
    const reach = p => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
    zoom(reach(e) / reach(before), other.clientX, other.clientY);
  }
  redraw();
});
canvas.addEventListener("wheel", e => {
  e.preventDefault();
  zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), e.clientX, e.clientY);
}, { passive: false });
canvas.addEventListener("dblclick", () => { fit(); redraw(); });
search.addEventListener("input", () => {
  const part = search.value.trim().toLowerCase();
  matches = new Set(part ? words.map((_, i) => i).filter(i => words[i].toLowerCase().includes(part)) : []);
  found.textContent = part ? matches.size + " found" : "";
  redraw();
});
search.addEventListener("keydown", e => {  // Enter: to the word itself, or the first that has it in it
  if (e.key !== "Enter" || !matches.size) return;
  const part = search.value.trim().toLowerCase();
  const i = [...matches].find(j => words[j].toLowerCase() === part) ?? [...matches][0];
  left += innerWidth / 2 - x(i);
  top_ += innerHeight / 2 - y(i);
  whole = false;
  show(i);
  redraw();
});
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
fit();
redraw();
</script>
</body>
</html>
"""
HARMLESS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def nearest(vectors: Any, count: int = 8) -> list[list[tuple[int, float]]]:
    """For each row of vectors (N, D) the rows with the largest cosine to it, and that, the nearest first.

    >>> nearest([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0]], count=1)
    [[(1, 0.999)], [(0, 0.999)], [(1, 0.05)]]
    """
    x = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    x = np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)
    found = []
    for i in range(len(x)):
        cosines = x @ x[i]
        cosines[i] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(x) - 1)]
        found.append([(int(j), round(float(cosines[j]), 3)) for j in best])
    return found


def page(title: str, words: Sequence[str], points: Any, near: Sequence[Sequence[tuple[int, float]]]) -> str:
    """The page: words (N) at points (N, 2), and for each the numbers of its neighbours with their cosines.

    Words are data in it, never markup.

    >>> text = page("two words", ["cat", "</script><b>"], [[0.0, 0.0], [1.0, 2.0]], [[(1, 0.5)], [(0, 0.5)]])
    >>> "cat" in text, "</script><b>" in text
    (True, False)
    """
    places = [[float(f"{v:.6g}") for v in point] for point in np.asarray(points, float).tolist()]
    data = json.dumps({"words": list(words), "points": places, "near": near}, separators=(",", ":"), allow_nan=False)
    values = {"title": html.escape(title.encode(errors="replace").decode()), "data": data.translate(HARMLESS)}
    return re.sub("@(title|data)", lambda match: values[match[1]], PAGE)
