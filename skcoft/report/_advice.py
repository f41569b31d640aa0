"""Sections of a report that say what to look at: suspect shots, and other thresholds."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from .._detector import COFTDetector
from .._input.reader import ReadOptions, read_input
from .._input.types import ImagesLike
from . import _html
from ._histogram import format_score
from ._images import REPORT_IMAGE_SIDE, load_image, to_data_uri
from ._tables import image_names, take_items

MAX_SHOWN = 6  # images in one of these sections
RATES = 0.01, 0.02, 0.05, 0.1, 0.2  # false positive rates of the table of thresholds
GOOD_AUC, LOW_DETECTION = (
    0.8,
    0.5,
)  # a threshold is called too low if scores are good and it is not


def suspect_section(detector: COFTDetector, shots: ImagesLike | None) -> str:
    """Return the training images that may not be normal; an empty text if there are none.

    The images are shown if they are passed as ``shots``.
    """
    suspects = detector.suspect_shots_
    if not len(suspects):
        return ""
    text = (
        "These training images are scored far below the others, each by the others alone. Look at "
        "them. Leave out images with a defect or of another object and fit again. If an image is "
        "normal, add images like it."
    )
    if shots is None:
        items = [(f"training image {i}", "counted from 0, in the order of fit") for i in suspects]
        return _html.alert("Training images that may not be normal. " + text, items)
    names = image_names(shots, None)
    cards = image_cards(detector, shots, suspects[:MAX_SHOWN], names, "training image")
    return _html.section("Training images that may not be normal", _html.paragraph(text), cards)


def image_cards(
    detector: COFTDetector,
    images: ImagesLike,
    rows: np.ndarray,
    names: Sequence[str],
    caption: str,
) -> str:
    """Return cards of some images with their names."""
    encoder = detector.embedder_.encoders_[0]
    chosen = read_input(take_items(images, rows), ReadOptions.of(detector))
    inputs = encoder.select_modality(chosen)
    cards = []
    for i, row in enumerate(rows):
        image = load_image(inputs, i, encoder.bit_depth, REPORT_IMAGE_SIDE)
        figure = to_data_uri(image), names[row], caption
        cards.append(_html.card(names[row], "", "", [figure]))
    return _html.cards(cards, wide=False)


def threshold_section(
    detector: COFTDetector,
    results: Bunch,
    y: np.ndarray | None,
    items: ImagesLike,
    names: Sequence[str],
) -> str:
    """Return what other thresholds would detect; an empty text without labels of both kinds.

    If the threshold is below most anomalies although the scores separate them from the normal
    images, the section says so and shows the normal images with the lowest scores.
    """
    readable = (results.errors == "") & np.isfinite(results.scores)
    if y is None or len(set(y[readable])) < 2:
        return ""
    normal = np.flatnonzero(readable & (y == 1))
    normal = normal[np.argsort(results.scores[normal], kind="stable")]
    anomalies = results.scores[readable & (y == -1)]
    content = [table_of_thresholds(results.scores[normal], anomalies)]
    auc = roc_auc_score(y[readable], results.scores[readable])
    detected = np.mean(anomalies < detector.offset_)
    if auc >= GOOD_AUC and detected < LOW_DETECTION:
        lowest = normal[results.scores[normal] < np.median(anomalies)][:MAX_SHOWN]
        content.insert(0, _html.paragraph(advice(auc, detected, len(lowest))))
        if len(lowest):
            content.append(image_cards(detector, items, lowest, names, "labelled normal"))
    return _html.section("What other thresholds would detect", *content)


def advice(auc: float, detected: float, n_shown: int) -> str:
    """Return why a threshold detects little, and what to do."""
    text = (
        f"The threshold detects {detected:.0%} of the anomalies, although the scores separate "
        f"anomalies from normal images well (area under the ROC curve {auc:.3f}). Choose the "
        "false positive rate that you can afford from the table and set it: pass it as max_fpr to "
        "set_threshold, or call tune_threshold with labelled images."
    )
    if n_shown:
        text += (
            " The images below are labelled normal and are scored below half of the anomalies. If "
            "one of them has a defect, correct its label. If they are normal, add images like "
            "them to the training images."
        )
    return text


def table_of_thresholds(normal: np.ndarray, anomalies: np.ndarray) -> str:
    """Return a table of false positive rates and the share of anomalies detected at each.

    ``normal`` are sorted scores. At the rate r of n normal images, at most r n of them are below
    the threshold.
    """
    spread = np.ptp([*normal, *anomalies])
    rows = []
    for rate in RATES:
        n_below = int(rate * len(normal) + 1e-9)
        if n_below == len(normal):
            continue
        threshold = normal[n_below]
        n_detected = int(np.sum(anomalies < threshold))
        cells = [
            f"{n_below} of {len(normal)} ({rate:.0%})",
            format_score(threshold, spread),
            f"{n_detected} of {len(anomalies)} ({n_detected / len(anomalies):.0%})",
        ]
        rows.append((cells, ""))
    columns = [("Normal images flagged, at most", ""), ("Threshold", "number"), ("Detected", "")]
    caption = "Other thresholds, from the labels of these images."
    return _html.table(caption, columns, rows, "Other thresholds")
