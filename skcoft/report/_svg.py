"""Pictures inside a page: photographs and maps as data URIs, scores as a chart in SVG."""

from base64 import b64encode
from html import escape
from io import BytesIO
from math import floor, log10

import numpy as np
import torch
from PIL import Image

from ._tables import shade

SIDE = 320  # pixels of a picture's longer side, at most
# From black over red to pale yellow, lighter all the way, so that it is read without its colours:
# every eighth of matplotlib's "inferno".
HEAT = np.array(
    [
        (0, 0, 4),
        (31, 12, 72),
        (85, 15, 109),
        (136, 34, 106),
        (186, 54, 85),
        (227, 89, 51),
        (249, 140, 10),
        (249, 201, 50),
        (252, 255, 164),
    ]
)
NORMAL, ANOMALOUS, INK = "#0072b2", "#d55e00", "#1b1f24"  # told apart by the colour-blind
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 480, 240, 34, 26, 58, 24  # of the chart
BINS = 32


def photograph(inputs, i, depth):
    """Return image i of validated images, (h, w, 3) in 0..1, reduced to ``SIDE``."""
    height, width = inputs.sizes[i]
    scale = min(1, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return inputs.load(torch.tensor([i]), size, depth)[0].permute(1, 2, 0).numpy()


def overlay(photo, drawn):
    """Lay a map, in colour, over a photograph in gray."""
    height, width = photo.shape[:2]
    drawn = np.nan_to_num(drawn.astype(np.float32))  # NaN where a mask hides
    drawn = Image.fromarray(drawn).resize((width, height), Image.BILINEAR)
    heat = shade(np.asarray(drawn))
    colour = np.stack(
        [np.interp(heat, np.linspace(0, 1, len(HEAT)), channel) for channel in HEAT.T / 255],
        axis=-1,
    )
    opacity = np.clip(1.2 * heat, 0, 0.7)[..., None]
    gray = 0.8 * photo.mean(axis=-1, keepdims=True)
    return gray + opacity * (colour - gray)


def data_uri(picture):
    """Return a picture (h, w, 3) in 0..1 as the address of itself, a JPEG."""
    content = BytesIO()
    pixels = (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)
    Image.fromarray(pixels).save(content, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + b64encode(content.getvalue()).decode()


def number(value, spread):
    """Text of a score, with as many digits as tell scores apart that differ by ``spread``."""
    digits = max(0, 2 - floor(log10(spread))) if spread > 0 else 2
    return f"{value:,.{min(digits, 9)}f}".replace("-", "\N{MINUS SIGN}")


def histogram(scores, anomalous, threshold, calibration, series):
    """Draw scores as an SVG, with the threshold and the normal images that it was set by.

    ``anomalous`` says which bars an image belongs to, ``series`` are the names of both kinds. Far
    below the threshold all images are in the first bar, or those near it could not be told.
    """
    low, high = _range(np.concatenate([scores, calibration]), threshold)
    edges = _edges(low, high, threshold)
    inside = np.clip(scores, edges[0], edges[-1])
    counts = [np.histogram(inside[mask], edges)[0] for mask in (~anomalous, anomalous)]
    tallest = max(1, int(sum(counts).max()))

    def x(value):
        share = (np.clip(value, edges[0], edges[-1]) - edges[0]) / (edges[-1] - edges[0])
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(count):
        return round(HEIGHT - BOTTOM - count / tallest * (HEIGHT - BOTTOM - TOP), 1)

    bars = []
    for start, stop, normal, other in zip(edges[:-1], edges[1:], *counts, strict=True):
        for count, base, fill in ((normal, 0, NORMAL), (other, normal, "url(#hatch)")):
            if count:
                top, wide = y(base + count), x(stop) - x(start) - 1
                bars.append(
                    f'<rect x="{x(start) + 0.5:.1f}" y="{top}" width="{wide:.1f}"'
                    f' height="{y(base) - top:.1f}" fill="{fill}"/>'
                )
    cut = bool((scores < edges[0]).any())
    marks = [_diamond(x(value), HEIGHT - BOTTOM + 9) for value in calibration]
    axes = _axes(x, y, _ticks(edges[0], edges[-1]), tallest, edges[-1] - edges[0], cut)
    limit = number(threshold, edges[-1] - edges[0])
    line = (
        f'<line x1="{x(threshold)}" x2="{x(threshold)}" y1="{TOP - 6}" y2="{HEIGHT - BOTTOM + 16}"'
        f' stroke="{INK}" stroke-width="1.5" stroke-dasharray="5 3"/>'
        f'<text x="{x(threshold)}" y="{TOP - 11}" text-anchor="middle">threshold {limit}</text>'
    )
    said = (
        f"Scores of {len(scores)} images, {int((~anomalous).sum())} {series[0]} and "
        f"{int(anomalous.sum())} {series[1]}; {int((scores < threshold).sum())} are below the "
        f"threshold, {limit}."
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f'<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse"'
        f' patternTransform="rotate(45)"><rect width="5" height="5" fill="{ANOMALOUS}"/>'
        '<rect width="1.4" height="5" fill="#fff"/></pattern></defs>'
        + "".join([*bars, *marks, axes, line])
        + "</svg>"
    )


def _range(values, threshold):
    """Lowest and highest score to show: below the threshold, at most thrice what is above."""
    high = max(values.max(), threshold)
    above = high - threshold
    low = min(values.min(), threshold)
    if above > 0:
        low = max(low, threshold - 3 * above)
    return (low, high) if high > low else (low - 1, high + 1)


def _edges(low, high, threshold):
    """Edges of bars, of which one is the threshold."""
    step = (high - low) / BINS
    below = int(np.ceil((threshold - low) / step - 1e-9))
    above = max(1, int(np.ceil((high - threshold) / step - 1e-9)))
    return threshold + step * np.arange(-below, above + 1)


def _ticks(low, high):
    """Four to nine round numbers between two."""
    rough = (high - low) / 5
    unit = 10.0 ** floor(log10(rough))
    step = unit * min((1, 2, 5, 10), key=lambda factor: abs(factor * unit - rough))
    return step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)


def _diamond(x, y):
    return f'<path d="M{x} {y - 5}l4 5l-4 5l-4 -5z" fill="#fff" stroke="{INK}"/>'


def _axes(x, y, ticks, tallest, spread, cut):
    bottom = HEIGHT - BOTTOM
    labels = [
        f'<text x="{x(tick)}" y="{bottom + 31}" text-anchor="middle">{number(tick, 100 * spread)}'
        "</text>"
        for tick in ticks
    ]
    more = "score: lower is more anomalous" + ("; the first bar holds all below it" if cut else "")
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="{INK}"/>'
        f'<text x="{LEFT - 6}" y="{y(tallest) + 4}" text-anchor="end">{tallest}</text>'
        f'<text x="{LEFT - 6}" y="{bottom + 4}" text-anchor="end">0</text>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{more}</text>'
        + "".join(labels)
    )
