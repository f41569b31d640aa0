"""The histogram of scores in a report, as SVG."""

from collections.abc import Callable, Sequence
from html import escape
from math import floor, log10

import numpy as np

NORMAL_COLOR, ANOMALOUS_COLOR, INK = "#0072b2", "#d55e00", "#1b1f24"  # colour-blind safe
CHART_WIDTH, CHART_HEIGHT = 480, 240
PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM = 34, 454, 24, 182
N_BINS = 32


def format_score(score: float, spread: float) -> str:
    """Format a score with enough digits to distinguish scores in a range of ``spread``."""
    digits = max(0, 2 - floor(log10(spread))) if spread > 0 else 2
    return f"{score:,.{min(digits, 9)}f}".replace("-", "\N{MINUS SIGN}")


def histogram(
    scores: np.ndarray,
    anomalous: np.ndarray,
    threshold: float,
    calibration: Sequence[float] | np.ndarray,
    labels: tuple[str, str],
) -> str:
    """Draw stacked bars of scores, the threshold and the calibration scores as SVG.

    The boolean array ``anomalous`` assigns each image to one of the two series in ``labels``. The
    first bar holds all scores below the range, because a wider range would hide the differences
    near the threshold.
    """
    low, high = _score_range(np.concatenate([scores, calibration]), threshold)
    edges = _bin_edges(low, high, threshold)
    clipped = np.clip(scores, edges[0], edges[-1])
    counts = [np.histogram(clipped[mask], edges)[0] for mask in (~anomalous, anomalous)]
    tallest, spread = max(1, int(np.sum(counts, axis=0).max())), edges[-1] - edges[0]

    def x(value: float) -> float:
        share = (np.clip(value, edges[0], edges[-1]) - edges[0]) / spread
        return round(PLOT_LEFT + share * (PLOT_RIGHT - PLOT_LEFT), 1)

    def y(count: float) -> float:
        return round(PLOT_BOTTOM - count / tallest * (PLOT_BOTTOM - PLOT_TOP), 1)

    bars = []
    for start, stop, n_normal, n_anomalous in zip(edges[:-1], edges[1:], *counts, strict=True):
        stack = (n_normal, 0, NORMAL_COLOR), (n_anomalous, n_normal, "url(#hatch)")
        for count, base, fill in stack:
            if count:
                top, width = y(base + count), x(stop) - x(start) - 1
                bars.append(
                    f'<rect x="{x(start) + 0.5:.1f}" y="{top}" width="{width:.1f}"'
                    f' height="{y(base) - top:.1f}" fill="{fill}"/>'
                )
    clips = bool((scores < edges[0]).any())
    marks = [
        f'<path d="M{x(score)} {PLOT_BOTTOM + 4}l4 5l-4 5l-4 -5z" fill="#fff" stroke="{INK}"/>'
        for score in calibration
    ]
    axes = _axes(x, y(tallest), _ticks(edges[0], edges[-1]), tallest, spread, clips)
    limit = format_score(threshold, spread)
    line = (
        f'<line x1="{x(threshold)}" x2="{x(threshold)}" y1="{PLOT_TOP - 6}"'
        f' y2="{PLOT_BOTTOM + 16}" stroke="{INK}" stroke-width="1.5" stroke-dasharray="5 3"/>'
        f'<text x="{x(threshold)}" y="{PLOT_TOP - 11}" text-anchor="middle">threshold {limit}'
        "</text>"
    )
    description = (
        f"Scores of {len(scores)} images: {int((~anomalous).sum())} {labels[0]} and "
        f"{int(anomalous.sum())} {labels[1]}. {int((scores < threshold).sum())} are below the "
        f"threshold of {limit}."
    )
    return (
        f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img"'
        f' aria-label="{escape(description)}">'
        '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse"'
        f' patternTransform="rotate(45)"><rect width="5" height="5" fill="{ANOMALOUS_COLOR}"/>'
        '<rect width="1.4" height="5" fill="#fff"/></pattern></defs>'
        + "".join([*bars, *marks, axes, line])
        + "</svg>"
    )


def _score_range(scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return the range to draw: below the threshold, at most three times the range above it."""
    high = max(scores.max(), threshold)
    above = high - threshold
    low = min(scores.min(), threshold)
    if above > 0:
        low = max(low, threshold - 3 * above)
    return (low, high) if high > low else (low - 1, high + 1)


def _bin_edges(low: float, high: float, threshold: float) -> np.ndarray:
    """Return edges of equal bins; the threshold is one of them, so no bar is on both sides."""
    step = (high - low) / N_BINS
    below = int(np.ceil((threshold - low) / step - 1e-9))
    above = max(1, int(np.ceil((high - threshold) / step - 1e-9)))
    return threshold + step * np.arange(-below, above + 1)


def _ticks(low: float, high: float) -> np.ndarray:
    """Return four to nine round numbers in a range."""
    rough = (high - low) / 5
    unit = 10.0 ** floor(log10(rough))
    step = unit * min((1, 2, 5, 10), key=lambda factor: abs(factor * unit - rough))
    return step * np.arange(np.ceil(low / step), np.floor(high / step) + 1)


def _axes(
    x: Callable[[float], float],
    top: float,
    ticks: np.ndarray,
    tallest: int,
    spread: float,
    clips: bool,
) -> str:
    """Return the baseline, the labels of both axes and the caption."""
    labels = [
        f'<text x="{x(tick)}" y="{PLOT_BOTTOM + 31}" text-anchor="middle">'
        f"{format_score(tick, 100 * spread)}</text>"
        for tick in ticks
    ]
    caption = "score (lower is more anomalous)"
    if clips:
        caption += "; the first bar includes all lower scores"
    return (
        f'<line x1="{PLOT_LEFT}" x2="{PLOT_RIGHT}" y1="{PLOT_BOTTOM}" y2="{PLOT_BOTTOM}"'
        f' stroke="{INK}"/>'
        f'<text x="{PLOT_LEFT - 6}" y="{top + 4}" text-anchor="end">{tallest}</text>'
        f'<text x="{PLOT_LEFT - 6}" y="{PLOT_BOTTOM + 4}" text-anchor="end">0</text>'
        f'<text x="{(PLOT_LEFT + CHART_WIDTH) / 2}" y="{CHART_HEIGHT - 6}" text-anchor="middle">'
        f"{caption}</text>" + "".join(labels)
    )
