"""Draw the log of a training, or of several to compare, and keep a compact copy of each log.

    python tools/curves.py training/autoencoder [training/another ...] [--name autoencoder] [-o docs/training]

Makes NAME.svg (the name is by default the first folder's), a panel for each figure over the steps, and a .jsonl for each
training, its log thinned to 100 kB. A figure whose name begins with that of another (val_wrong, val) shares its panel.
A copy can stand for its folder. Prints what each training took and came to.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

UNDRAWN = ("step", "gradient", "rate", "eta")
LIMIT = 100_000

COLUMNS, PANEL, PLOT, LEFT, TOP, LABEL = 3, (320, 204), (190, 132), 48, 30, 13
# Of middling lightness, so that they are seen on white and on black.
COLOURS = ("#3d85d8", "#d9742b", "#3b9c6d", "#a86bd1", "#c8527f", "#8c8a2e")
INK = "#77808a"
DASHES = ("none", "5 3", "2 2", "8 3 2 3")

Line: TypeAlias = dict[str, float]
Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """The points of one figure of one training, in their order, and how they are drawn."""

    label: str
    colour: str
    dash: str
    points: list[Point]


@dataclass(frozen=True)
class Axis:
    """One side of a panel: `length` pixels for the figures from `low` to `high`."""

    low: float
    high: float
    length: int
    logarithmic: bool = False

    @classmethod
    def over(cls, values: Sequence[float], length: int) -> Axis:
        """Room for all of them; logarithmic where they are positive and the largest is more than ten times the smallest."""
        low, high = min(values), max(values)
        if high > 10 * low > 0:
            return cls(low / 1.1, high * 1.1, length, True)
        margin = (high - low or abs(high) or 1.0) / 20
        return cls(low - margin, high + margin, length)

    def at(self, value: float) -> float:
        low, high, here = (math.log(each) if self.logarithmic else each for each in (self.low, self.high, value))
        return (here - low) / (high - low) * self.length

    def ticks(self) -> list[float]:
        """Round figures, about four."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            for digits in ((1, 2, 5), (1, 3), (1,)):
                ticks = [digit * 10.0**decade for decade in decades for digit in digits]
                ticks = [tick for tick in ticks if self.low <= tick <= self.high]
                if len(ticks) <= 6:
                    break
            return ticks
        least = (self.high - self.low) / 5
        decade = 10.0 ** math.floor(math.log10(least))
        step = next(digit * decade for digit in (1, 2, 2.5, 5, 10) if digit * decade >= least)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def read(path: Path) -> list[Line]:
    """The log of a training folder, or a copy of one. Of steps taken again after an interruption the last is kept."""
    text = (path / "log.jsonl" if path.is_dir() else path).read_text()
    lines = {(line["step"], "loss" not in line): line for line in map(json.loads, text.splitlines())}
    return [lines[key] for key in sorted(lines)]


def thinned(lines: list[Line]) -> str:
    """Every n-th line of each sort, training and validation, and the last; n is the smallest with which all fit."""
    every = 1
    while True:
        sorts = ([line for line in lines if ("loss" in line) == training] for training in (True, False))
        kept = [line for sort in sorts for line in sort[::-every]]
        text = "".join(json.dumps(line) + "\n" for line in sorted(kept, key=lambda line: (line["step"], "loss" not in line)))
        if len(text) <= LIMIT:
            return text
        every += 1


def figures(runs: Sequence[list[Line]]) -> dict[str, list[str]]:
    """The figures by the panel that they are on, the loss first, then the others of training, then those of validation."""
    lines = sorted((line for run in runs for line in run), key=lambda line: "loss" not in line)
    names = list(dict.fromkeys(["loss", *(name for line in lines for name in line if name not in UNDRAWN)]))
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(min((other for other in names if name.startswith(f"{other}_")), key=len, default=name), []).append(name)
    return panels


def curves(runs: Sequence[list[Line]], panel: str, names: Sequence[str]) -> list[Curve]:
    """One training has a colour for each figure; several have a colour each, and a dash for each figure."""
    drawn = []
    for run, lines in enumerate(runs):
        for index, name in enumerate(names):
            points = [(line["step"], line[name]) for line in lines if math.isfinite(line.get(name, math.nan))]
            if points:
                colour, dash = (run, index) if len(runs) > 1 else (index, 0)
                label = f"{name.removeprefix(f'{panel}_')} " if len(names) > 1 else ""
                drawn.append(Curve(label + f"{points[-1][1]:.3g}", COLOURS[colour % len(COLOURS)], DASHES[dash % len(DASHES)], points))
    return drawn


def spread(heights: Sequence[float]) -> list[float]:
    """Heights for labels, as near to those given as they can be without touching: in order, pushed down, then up from the end."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + LABEL)
    lowest = float(PLOT[1])
    for index in reversed(order):
        placed[index] = min(placed[index], lowest)
        lowest = placed[index] - LABEL
    return placed


def draw_panel(title: str, drawn: Sequence[Curve], steps: Axis) -> str:
    """An SVG group: grid, ticks, curves, and at the end of each curve its name and last figure."""
    width, height = PLOT
    axis = Axis.over([value for curve in drawn for _, value in curve.points], height)
    parts = [f'<text class="title" x="0" y="-10">{escape(title)}</text>']
    for tick in axis.ticks():
        y = height - axis.at(tick)
        parts.append(f'<path class="grid" d="M0 {y:.1f}H{width}"/><text class="y" x="-6" y="{y + 4:.1f}">{tick:g}</text>')
    parts.append(f'<path class="axis" d="M0 {height}H{width}"/>')
    for tick in steps.ticks():
        x = steps.at(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {height}v4"/><text class="x" x="{x:.1f}" y="{height + 16}">{tick:,.0f}</text>')
    parts.append(f'<text x="{width + 24}" y="{height + 16}">steps</text>')
    ends = spread([height - axis.at(curve.points[-1][1]) for curve in drawn])
    for curve, y in zip(drawn, ends, strict=True):
        path = "L".join(f"{steps.at(step):.1f} {height - axis.at(value):.1f}" for step, value in curve.points)
        x, last = steps.at(curve.points[-1][0]), height - axis.at(curve.points[-1][1])
        parts.append(f'<path class="curve" stroke="{curve.colour}" stroke-dasharray="{curve.dash}" d="M{path}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{last:.1f}" r="2.5" fill="{curve.colour}"/>')
        parts.append(f'<text x="{width + 8}" y="{y + 4:.1f}" fill="{curve.colour}">{escape(curve.label)}</text>')
    return "\n".join(parts)


def draw(names: Sequence[str], runs: Sequence[list[Line]]) -> str:
    """The whole picture, on no background; where there are several trainings, their names above in their colours."""
    steps = Axis(0, max(line["step"] for run in runs for line in run), PLOT[0])
    panels = {panel: curves(runs, panel, group) for panel, group in figures(runs).items()}
    panels = {panel: drawn for panel, drawn in panels.items() if drawn}
    top = 24 if len(runs) > 1 else 0
    width, height = PANEL[0] * min(COLUMNS, len(panels)), PANEL[1] * -(-len(panels) // COLUMNS) + top
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>Training curves of {escape(', '.join(names))}</title>",
        f"<style>text{{font:11px system-ui,sans-serif}} text:not([fill]){{fill:{INK}}} .title{{font-weight:bold;font-size:13px}}",
        f".y{{text-anchor:end}} .x{{text-anchor:middle}} .axis,.grid{{stroke:{INK};fill:none}} .grid{{opacity:.3}}",
        ".curve{fill:none;stroke-width:1.6;stroke-linejoin:round}</style>",
    ]
    if top:
        legend = "  ".join(f'<tspan fill="{COLOURS[run % len(COLOURS)]}">{escape(name)}</tspan>' for run, name in enumerate(names))
        parts.append(f'<text class="title" x="{LEFT}" y="16" xml:space="preserve">{legend}</text>')
    for index, (panel, drawn) in enumerate(panels.items()):
        x, y = LEFT + index % COLUMNS * PANEL[0], top + TOP + index // COLUMNS * PANEL[1]
        parts.append(f'<g transform="translate({x} {y})">\n{draw_panel(panel, drawn, steps)}\n</g>')
    return "\n".join([*parts, "</svg>\n"])


def summary(lines: list[Line]) -> str:
    """Steps, the time they took (to the accuracy of the logged rates, which are means since the last start), and last figures."""
    reports = [line for line in lines if "rate" in line]
    steps = [0.0, *(report["step"] for report in reports)]
    seconds = sum((after - before) / report["rate"] for (before, after), report in zip(pairwise(steps), reports, strict=True))
    last = {name: value for line in lines for name, value in line.items() if name not in UNDRAWN}
    return f"{lines[-1]['step']} steps in about {seconds / 60:.0f} min  " + "  ".join(f"{name} {value:.4g}" for name, value in last.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", type=Path, nargs="+", metavar="training", help="folder of a training, or a copy of its log")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/training"), help="folder for what is made")
    parser.add_argument("--name", help="of the picture (default: the first training's)")
    arguments = parser.parse_args()
    names = [path.resolve().stem if path.is_file() else path.resolve().name for path in arguments.logs]
    try:
        runs = [read(path) for path in arguments.logs]
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, lines in zip(names, runs, strict=True):
        (arguments.output / f"{name}.jsonl").write_text(thinned(lines))
        print(f"{name}: {summary(lines)}")
    (arguments.output / f"{arguments.name or names[0]}.svg").write_text(draw(names, runs))


if __name__ == "__main__":
    main()
