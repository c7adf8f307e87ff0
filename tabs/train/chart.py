"""A line chart in HTML: a few curves over the steps of a training, on a linear or logarithmic scale.

Drawn here because Gradio's own knows no logarithmic scale and does not draw a curve whose name it did not know from the
first. The page gets a few kilobytes, and nothing flickers when they change.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

FINE = 1000  # units of the drawing's width and height
X_TICKS, Y_TICKS = 5, 5  # about
MARGIN = 0.04  # of the height, above and below the curves


@dataclass(frozen=True)
class Curve:
    """A named curve. `colour` is CSS; a `faint` one stays behind the others."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    colour: str
    faint: bool = False


def line_chart(curves: Sequence[Curve], title: str, logarithmic: bool) -> str:
    """The chart, with its title, axes and legend; "" if no curve has a point that can be drawn."""
    drawn = [(curve, _points(curve, logarithmic)) for curve in curves]
    all_points = [point for _, points in drawn for point in points]
    if not all_points:
        return ""
    left, right = min(x for x, _ in all_points), max(x for x, _ in all_points)
    low, high = min(y for _, y in all_points), max(y for _, y in all_points)
    right = max(right, left + 1)
    room = MARGIN * (high - low) or 0.05
    low, high = low - room, high + room

    def place(x: float, y: float) -> tuple[float, float]:
        return (x - left) / (right - left), (high - y) / (high - low)

    lines = "".join(_line(curve, [place(*point) for point in points]) for curve, points in drawn if points)
    xs = [(place(x, low)[0], f"{x:,.0f}") for x in _nice(left, right, X_TICKS, whole=True)]
    ys = [(place(left, y)[1], f"{10**y if logarithmic else y:.3g}") for y in _levels(low, high, logarithmic)]
    grid = "".join(f'<path d="M0 {y * FINE:.0f}H{FINE}"/>' for y, _ in ys)
    labels = "".join(f'<span class="x" style="left:{100 * x:.1f}%">{text}</span>' for x, text in xs)
    labels += "".join(f'<span class="y" style="top:{100 * y:.1f}%">{text}</span>' for y, text in ys)
    legend = "".join(
        f'<span><i style="background:{curve.colour};opacity:{_opacity(curve)}"></i>{html.escape(curve.name)}</span>'
        for curve, _ in drawn
    )
    title = html.escape(title)
    return (
        f'<figure class="sd-chart" role="img" aria-label="{title}"><figcaption><b>{title}</b>{legend}</figcaption>'
        f'<div><svg viewBox="0 0 {FINE} {FINE}" preserveAspectRatio="none" aria-hidden="true">'
        f'<g class="grid">{grid}</g>{lines}</svg>{labels}</div></figure>'
    )


def _points(curve: Curve, logarithmic: bool) -> list[tuple[float, float]]:
    values = zip(curve.steps, curve.values, strict=True)
    if logarithmic:
        return [(x, math.log10(y)) for x, y in values if math.isfinite(y) and y > 0]
    return [(x, y) for x, y in values if math.isfinite(y)]


def _line(curve: Curve, places: list[tuple[float, float]]) -> str:
    if len(places) == 1:  # a line of one point would not be seen
        places = [places[0], (min(1.0, places[0][0] + 0.01), places[0][1])]
    points = " ".join(f"{x * FINE:.0f},{y * FINE:.0f}" for x, y in places)
    return f'<polyline points="{points}" stroke="{curve.colour}" opacity="{_opacity(curve)}"/>'


def _opacity(curve: Curve) -> float:
    return 0.4 if curve.faint else 1


def _levels(low: float, high: float, logarithmic: bool) -> list[float]:
    """Where the horizontal lines are, in the units of the drawing."""
    if not logarithmic:
        return _nice(low, high, Y_TICKS)
    decades = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        found = [math.log10(d) + e for e in decades for d in digits if low <= math.log10(d) + e <= high]
        if len(found) >= 3:
            return found[:: math.ceil(len(found) / (2 * Y_TICKS))]
    return [math.log10(value) for value in _nice(10**low, 10**high, Y_TICKS) if value > 0]


def _nice(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """About so many round numbers from `low` to `high`."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * m for m in (1, 2, 5) if power * m >= rough), 10 * power)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]
