"""Limits of the scores of new normal images, from few scores of which some may be wrong."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

TARGET_FPR = 0.05  # of the automatic threshold
MIN_SHOTS = 3  # needed to estimate how scores vary
MAX_DOF = 3  # held-out scores have heavier tails than normal deviates
MAD_EFFICIENCY = 0.5  # of the MAD of few scores, relative to their standard deviation
SUSPECT_RATE = 0.01  # of fits on clean shots in which a shot is called suspect, for heavy tails
MIN_SHOTS_TO_SUSPECT = 4


def median_and_deviation(scores: np.ndarray) -> tuple[float, float]:
    """Return the median, and the standard deviation estimated by the MAD.

    Up to half of the scores may be wrong. The MAD is the median absolute deviation from the
    median. The MAD of normal deviates is 0.674 standard deviations.
    """
    median = float(np.median(scores))
    return median, float(np.median(np.abs(scores - median)) / stats.norm.ppf(0.75))


def lower_limit(
    scores: np.ndarray, view_scores: Sequence[float] | np.ndarray = (), rate: float = TARGET_FPR
) -> float:
    """Return the limit below which about 5 % of new normal images score, or another ``rate``.

    It is the lower end of a one-sided Student prediction interval around the median, which one
    wrong shot hardly moves. The interval is wider for fewer shots:

    - The median varies as pi / 2 times the mean. A held-out score sums up n - 1 distances to other
      shots, and any two scores share one distance. So they correlate by about 1 / (n - 1): they
      vary less than scores of new images, and their center varies twice as much, as pi / n.
    - The MAD of n scores is as precise as a standard deviation with ``MAD_EFFICIENCY`` times the
      degrees of freedom. There are at most ``MAX_DOF``.

    Two shots have a single distance, which does not show how it varies. For one or two shots, the
    limit is the lowest score of the shots and their views. ``scores`` are the held-out scores of
    the n shots, and ``view_scores`` those of their views.
    """
    n = len(scores)
    if n < MIN_SHOTS:
        return float(min([*scores, *view_scores]))
    median, deviation = median_and_deviation(scores)
    deviation /= np.sqrt(1 - 1 / (n - 1))
    dof = min(MAD_EFFICIENCY * (n - 1), MAX_DOF)
    return median - float(stats.t.ppf(1 - rate, dof) * np.sqrt(1 + np.pi / n)) * deviation


def is_suspect(scores: np.ndarray) -> np.ndarray:
    """Return which shots score lower, held out, than a normal shot among n would.

    The limit is that of :func:`lower_limit` for a rate of ``SUSPECT_RATE / n``, because any of n
    shots may fall below it.
    """
    n = len(scores)
    if n < MIN_SHOTS_TO_SUSPECT:
        return np.zeros(n, dtype=bool)
    return scores < lower_limit(scores, rate=SUSPECT_RATE / n)
