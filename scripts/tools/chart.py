"""Line charts as small SVG files that read well on a light and on a dark page."""

from html import escape

WIDTH, HEIGHT = 670, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 180, 30, 46
COLOURS = ["#d1495b", "#00798c", "#edae49", "#66a182", "#7a5195", "#8d96a3", "#222222"]


def chart(title: str, x_name: str, y_name: str, series: dict, x_max: float, y_range: tuple) -> str:
    """`series`: name to [(x, y)]; both axes are in percent. What is shown: `x_max`, `y_range`."""
    low, high = y_range
    x_at = lambda x: LEFT + x / x_max * (WIDTH - LEFT - RIGHT)  # noqa: E731
    height = HEIGHT - TOP - BOTTOM
    y_at = lambda y: HEIGHT - BOTTOM - (y - low) / (high - low) * height  # noqa: E731
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 18, title, "start", size=14),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name),
        f'<g transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">'
        f"{text(0, 0, y_name)}</g>",
    ]
    for step in range(6):
        x, y = x_max * step / 5, low + (high - low) * step / 5
        parts.append(f'<path d="M{LEFT} {y_at(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y_at(y) + 4, f"{100 * y:.0f} %", "end"))
        parts.append(text(x_at(x), HEIGHT - BOTTOM + 16, f"{100 * x:.0f} %"))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        shown = [(x_at(x), y_at(y)) for x, y in sorted(points) if x <= x_max + 1e-9]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in shown]
        y = TOP + 10 + 18 * number
        parts.append(f'<path d="M{WIDTH - RIGHT + 12} {y}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(text(WIDTH - RIGHT + 36, y + 4, name, "start"))
    return "\n".join([*parts, "</svg>", ""])


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="{size}" fill="#333">{escape(words)}</text>'
