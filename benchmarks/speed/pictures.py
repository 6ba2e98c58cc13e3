"""Bar charts as SVG: a few rectangles and words, in colours that do in light and dark. Knows no figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, LEFT, RIGHT, TOP = 860, 270, 130, 46
BAR, GAP, GROUP_GAP = 18, 6, 14
COLOURS = ("ours", "other", "third", "fourth")

_STYLE = """
    .text { fill: #1f2933 } .soft { fill: #52606d } .name { font-weight: 600; font-size: 15px }
    .ours { fill: #2563eb } .other { fill: #9aa5b1 } .third { fill: #c2410c } .fourth { fill: #0f766e }
    .line { stroke: #1f2933; stroke-width: 1.4 }
    @media (prefers-color-scheme: dark) {
      .text { fill: #e6edf3 } .soft { fill: #aab6c2 } .line { stroke: #e6edf3 }
      .ours { fill: #6ea8fe } .other { fill: #57636f } .third { fill: #f0883e } .fourth { fill: #2dd4bf }
    }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: what stands before it.
        value: its length.
        text: what stands behind it.
        colour: one of `COLOURS`.
        least, greatest: the ends of a line through its end; the same for none.
    """

    label: str
    value: float
    text: str
    colour: str = "ours"
    least: float = 0.0
    greatest: float = 0.0


def bars(title: str, groups: Sequence[Sequence[Bar]], *, note: str = "", powers: bool = False) -> str:
    """Groups of bars, one below the other, on one scale.

    Args:
        powers: a scale of powers of ten, that begins at the one below the least figure.
    """
    every = [bar for group in groups for bar in group]
    figures = [figure for bar in every for figure in (bar.value, bar.least, bar.greatest) if figure > 0] or [1.0]
    first = floor(log10(min(figures)))
    full = log10(max(figures)) - first if powers else max(figures)

    def scale(figure: float) -> float:
        if powers:
            figure = log10(figure) - first if figure > 0 else 0.0
        return figure / (full or 1.0) * (WIDTH - LEFT - RIGHT)

    parts, y = [], TOP
    for group in groups:
        for bar in group:
            parts.append(_bar(bar, y, scale))
            y += BAR + GAP
        y += GROUP_GAP
    if note:
        parts.append(f'  <text class="soft" x="16" y="{y + 8}" font-size="12.5">{escape(note)}</text>')
        y += 20
    told = "; ".join(f"{bar.label}: {bar.text}" for bar in every)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" aria-labelledby="title desc"'
        " font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"13\">\n"
        f'  <title id="title">{escape(title)}</title>\n  <desc id="desc">{escape(told)}</desc>\n'
        f"  <style>{_STYLE}  </style>\n"
        f'  <text class="text name" x="16" y="26">{escape(title)}</text>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _bar(bar: Bar, y: float, scale: Callable[[float], float]) -> str:
    length, middle = scale(bar.value), y + BAR / 2
    end = scale(max(bar.value, bar.greatest))
    parts = [
        f'  <text class="text" x="{LEFT - 10}" y="{middle + 4.5:.1f}" text-anchor="end">{escape(bar.label)}</text>',
        f'  <rect class="{bar.colour}" x="{LEFT}" y="{y:.1f}" width="{max(length, 1):.1f}" height="{BAR}" rx="2"/>',
    ]
    if bar.greatest > bar.least:
        at = [LEFT + scale(each) for each in (bar.least, bar.greatest)]
        parts.append(
            f'  <path class="line" d="M{at[0]:.1f} {middle}H{at[1]:.1f}'
            f'M{at[0]:.1f} {middle - 4}v8M{at[1]:.1f} {middle - 4}v8"/>'
        )
    parts.append(f'  <text class="soft" x="{LEFT + end + 8:.1f}" y="{middle + 4.5:.1f}">{escape(bar.text)}</text>')
    return "\n".join(parts)
