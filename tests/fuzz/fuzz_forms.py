"""Draw forms of X for some time: ``python tests/fuzz/fuzz_forms.py --seconds 600 --seed 0``.

Each form must give the scores of the array, or an error of ours that names X; with
``on_error="nan"``, an odd item must cost its own score only. Failures are printed with their
numbers, and the exit code is 1.
"""

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from form_strategies import ODD, TEST, draw_form, fitted_detector


def form_outcome(detector, expected, rng):
    """Return what a drawn form led to, and its name."""
    name, X = draw_form(rng)
    try:
        scores = detector.score_samples(X)
    except (ValueError, TypeError) as error:
        return ("an error that names X" if "X" in str(error) else f"FAILED {error!r}"), name
    except Exception as error:
        return f"FAILED {error!r}", name
    readable = ~np.isnan(scores)
    same = len(scores) == 6 and np.allclose(scores[readable], expected[readable], rtol=1e-4)
    if not same:
        return "FAILED other scores", name
    return ("the same scores" if readable.all() else "NaN"), name


def odd_outcome(tolerant, expected, rng):
    """Return what odd items among images led to, and their names."""
    odd = {i: rng.choice(sorted(ODD)) for i in rng.sample(range(6), rng.randint(1, 5))}
    X = [ODD[odd[i]]() if i in odd else image for i, image in enumerate(TEST)]
    try:
        scores = tolerant.score_samples(iter(X) if rng.random() < 0.5 else X)
    except Exception as error:
        return f"FAILED {error!r}", odd
    is_odd = np.isin(np.arange(6), list(odd))
    same = np.allclose(scores[~is_odd], expected[~is_odd], rtol=1e-6)
    ok = same and np.array_equal(np.isnan(scores), is_odd)
    return ("odd items are NaN" if ok else "FAILED other scores"), odd


def main():
    """Run until the time is over; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rng, counts = random.Random(args.seed), Counter()
    strict, tolerant = fitted_detector(), fitted_detector(on_error="nan")
    expected = strict.score_samples(TEST)
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        detector = rng.choice([strict, tolerant])
        draw = rng.choice([form_outcome, form_outcome, odd_outcome])
        outcome, name = draw(tolerant if draw is odd_outcome else detector, expected, rng)
        counts[outcome] += 1
        if outcome.startswith("FAILED"):
            print(f"draw {counts.total()}: {outcome}: {name}", flush=True)
    print(f"seed {args.seed}, {counts.total()} draws: {dict(counts)}")
    return int(any(outcome.startswith("FAILED") for outcome in counts))


if __name__ == "__main__":
    sys.exit(main())
