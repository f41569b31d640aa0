"""A report: what a detector decided on images, for somebody who was not there, as one page."""

from datetime import UTC, datetime
from html import escape
from numbers import Integral
from platform import python_version

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted

from .._explanation import check_shots
from .._input.labels import check_labels
from .._input.reader import ReadOptions, read_input
from .._persistence.model_file import VERSIONS, atomic_write
from .._utils.files import check_output_path
from . import _html as _page
from ._svg import ANOMALOUS, NORMAL, data_uri, histogram, number, overlay, photograph
from ._tables import BRIGHTEST, collection_of, names_of, score_images


def write_report(
    detector, X, path, *, y=None, names=None, shots=None, title="Report", worst=12, verbose=0
):
    """Score images and write a report of it: one HTML file that needs nothing else.

    How many are anomalous, the scores with the threshold, the images with the lowest scores
    beside their anomaly maps, a table of all images, and the settings. Images that cannot be read
    are named. There is no script in it and nothing from elsewhere: mail it, or print it.

    Parameters
    ----------
    detector : COFTDetector
        A fitted one.
    X : images, see the user guide
        What to score; of the kind seen in fit.
    path : str or path
        The file; an earlier one is replaced once all of the new one is written.
    y : array-like of shape (n_images,), default=None
        +1 for normal, -1 for anomalous, where it is known: what was found, missed and flagged.
    names : sequence of str or paths, default=None
        What the images are called. None means their paths or, of other images, numbers from 0.
    shots : images, default=None
        The images of fit, in their order, of which a detector keeps none: then each image is
        shown beside the nearest.
    title : str, default="Report"
        Heading of the page.
    worst : int, default=12
        How many images are shown, those with the lowest scores.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        What :func:`~skcoft.report.score_images` found.

    Raises
    ------
    ValueError
        If X is invalid or none of it can be scored, or another argument does not fit.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from skcoft import COFTDetector
    >>> from skcoft.datasets import make_plates
    >>> from skcoft.report import write_report
    >>> plates = make_plates(6, 1, size=32, random_state=0).images
    >>> detector = COFTDetector("embedded", max_iter=0).fit(plates[:4])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = write_report(detector, plates[4:], os.path.join(folder, "report.html"))
    >>> len(found.scores)
    3
    """
    check_output_path(path)
    found, text = _report(detector, X, y, names, shots, title, worst, verbose)
    atomic_write(path, text.encode("utf-8", "replace"))  # names may hold bytes that are no text
    return found


def _report(detector, X, y, names, shots, title, worst, verbose):
    """Return what was found, and the page that says so."""
    check_is_fitted(detector, "embedder_")
    if detector.embedder_.encoders_[0].network.input_type == "tabular":
        raise ValueError(
            "A report shows images; the detector was fitted on rows of features, whose scores "
            "score_images and write_scores give."
        )
    if not isinstance(title, str):
        raise ValueError(f"title must be text; got {title!r}.")
    if isinstance(worst, bool) or not isinstance(worst, Integral) or worst < 0:
        raise ValueError(f"worst must be an integer >= 0; got {worst!r}.")
    items = collection_of(X)
    names = names_of(items, names)
    y = None if y is None else check_labels(items, y)
    if shots is not None:
        shots = collection_of(shots)
        check_shots(detector, shots)
    found = score_images(detector, items, verbose=verbose)
    read = np.flatnonzero(found.errors == "")
    order = read[np.argsort(found.scores[read], kind="stable")]  # the lowest scores first
    sections = [
        _headline(found, y, title),
        _unread(found, names),
        _scores(detector, found, y),
        _worst(detector, items, found, names, order[:worst], shots) if worst else "",
        _all_images(found, y, names, [*np.flatnonzero(found.errors != ""), *order]),
        _settings(detector),
    ]
    return found, _page.page(title, [part for part in sections if part])


def _headline(found, y, title):
    n, unread = len(found.scores), int((found.errors != "").sum())
    read = found.errors == ""
    flagged = int((read & (found.labels == -1)).sum())
    lead = (
        f"{flagged} of {n - unread} images {'is' if flagged == 1 else 'are'} anomalous."
        if flagged
        else f"None of {n - unread} images is anomalous."
    )
    counts = [
        (n - unread, "images", ""),
        (flagged, "anomalous", "anomalous"),
        (n - unread - flagged, "normal", "normal"),
    ]
    if unread:
        counts.append((unread, "could not be read", ""))
    if y is not None:
        defects, good = read & (y == -1), read & (y == 1)
        caught, alarms = (int((found.labels[mask] == -1).sum()) for mask in (defects, good))
        lead += f" Of {defects.sum()} known anomalies {caught} were found, and "
        lead += f"{alarms} of {good.sum()} normal images flagged."
        counts += [
            (f"{caught} / {defects.sum()}", "known anomalies found", "anomalous"),
            (f"{alarms} / {good.sum()}", "normal images flagged", "normal"),
        ]
        if defects.any() and good.any():
            area = roc_auc_score(y[read], found.scores[read])
            counts.append((f"{area:.3f}", "area under the ROC curve (1 is perfect)", ""))
    when = datetime.now(UTC).strftime("Written on %d %B %Y at %H:%M UTC")
    note = f"{when} by skcoft {VERSIONS['skcoft']}."
    return _page.heading(title, lead, note) + "\n" + _page.tiles(counts)


def _unread(found, names):
    failed = np.flatnonzero(found.errors != "")
    if not len(failed):
        return ""
    text = "Images that could not be read, and so count as anomalous"
    return _page.alert(text, [(names[i], found.errors[i]) for i in failed])


def _scores(detector, found, y):
    read = (found.errors == "") & np.isfinite(found.scores)
    anomalous = (found.labels if y is None else y) == -1
    kinds = ("normal", "anomalous") if y is None else ("known to be normal", "known anomalies")
    svg = histogram(
        found.scores[read], anomalous[read], detector.offset_, detector.calibration_scores_, kinds
    )
    n = len(detector.calibration_scores_)
    text = (
        "The score says how well an image agrees with the normal images that the detector was "
        "fitted on. An image below the threshold is called anomalous. The p-value is the share of "
        f"the {n} normal images that the threshold was set by whose score is as low, the image "
        f"itself counted in, so that the least possible one is {1 / (n + 1):.2g}."
    )
    hatch = f"repeating-linear-gradient(45deg,{ANOMALOUS} 0 3px,#fff 3px 4px)"
    diamond = "border:1.5px solid #1b1f24;transform:rotate(45deg) scale(.75)"
    key = [
        (f"background:{NORMAL}", kinds[0]),
        (f"background:{hatch}", kinds[1]),
        (diamond, "normal images that the threshold was set by"),
    ]
    return _page.section("Scores", _page.beside(_page.chart(svg, key), _page.paragraph(text)))


def _worst(detector, items, found, names, rows, shots):
    """Return the images with the lowest scores, beside their maps and nearest shots."""
    chosen = [items[i] for i in rows]
    if not isinstance(items, list):  # an array or tensor stays one
        chosen = items[rows]
    encoder = detector.embedder_.encoders_[0]
    options = ReadOptions.of(detector)
    inputs = encoder.select_modality(read_input(chosen, options))
    try:
        maps = detector.anomaly_map(chosen)
    except ValueError:  # these were scored, so what they lack is a local density
        maps = None
    pictures = [photograph(inputs, i, encoder.bit_depth) for i in range(len(rows))]
    shown = [
        [(data_uri(p), f"Photograph {names[i]}", "image")]
        for p, i in zip(pictures, rows, strict=True)
    ]
    flagged = int((found.labels[found.errors == ""] == -1).sum())
    more = f" {flagged} are anomalous; the table names them all." if flagged > len(rows) else ""
    content = [_page.paragraph(f"The lowest scores first.{more}")]
    if maps is not None:
        for pieces, picture, drawn in zip(shown, pictures, maps, strict=True):
            uri = data_uri(overlay(picture, drawn))
            pieces.append((uri, "Where it departs from normal images, bright", "anomaly map"))
        text = (
            "Maps show where an image departs from the normal ones, all on one scale: 0 is what "
            "the least likely spots of a normal image reach on average, in standard deviations "
            "above that."
        )
        content += [_page.paragraph(text), _page.heat_scale(BRIGHTEST)]
    if shots is not None:
        nearest = detector.kneighbors(chosen, return_distance=False)[:, 0]
        known = encoder.select_modality(read_input(shots, options))
        for pieces, shot in zip(shown, nearest, strict=True):
            uri = data_uri(photograph(known, shot, encoder.bit_depth))
            pieces.append((uri, "The most similar of the normal images", "nearest shot"))
    spread = np.ptp(found.scores[found.errors == ""])
    drawn = [
        _page.card(
            names[i],
            _page.VERDICTS[found.labels[i]],
            f"score {number(found.scores[i], spread)}, p = {found.pvalues[i]:.2g}",
            pieces,
        )
        for i, pieces in zip(rows, shown, strict=True)
    ]
    content.append(_page.cards(drawn, three=len(shown[0]) > 2))
    return _page.section(f"The {len(rows)} least normal images", *content)


def _all_images(found, y, names, order):
    """Return the table of all images: those that could not be read, then the lowest scores."""
    columns = [
        ("Image", "name"),
        ("Decision", ""),
        ("Score", "number"),
        ("p-value", "number"),
        *([] if y is None else [("Known to be", "")]),
    ]
    spread, rows = np.ptp(found.scores[found.errors == ""]), []
    for i in order:
        failed, label = found.errors[i] != "", found.labels[i]
        cells = [
            escape(names[i]),
            _page.NOT_READ if failed else _page.VERDICTS[label],
            "" if failed else number(found.scores[i], spread),
            "" if failed else f"{found.pvalues[i]:.3f}",
        ]
        if y is not None:
            cells.append({1: "normal", -1: "anomalous"}[y[i]])
        rows.append((cells, "wrong" if y is not None and y[i] != label else ""))
    caption = f"{len(order)} images, the lowest scores first."
    if y is not None:
        caption += " Shaded: the decision is not what is known."
    return _page.section("All images", _page.table(caption, columns, rows))


def _settings(detector):
    shown = detector.get_params(deep=False)
    usual = type(detector)().get_params(deep=False)
    changed = [f"{k}={v!r}" for k, v in shown.items() if repr(v) != repr(usual[k])]
    seen = [encoder.modality for encoder in detector.embedder_.encoders_]
    modalities = dict.fromkeys(name for name in seen if name is not None)
    pairs = [
        ("backbone", shown["backbone"]),
        ("weights", detector.weights_ or "random"),
        ("images a sample", ", ".join(map(str, modalities)) or "one"),
        ("shots", len(detector.embeddings_)),
        ("iterations of fine-tuning", detector.n_iter_),
        ("threshold", f"{detector.offset_:.6g}"),
        ("threshold set by", f"{len(detector.calibration_scores_)} normal images"),
        ("other than default", ", ".join(changed) or "nothing"),
        ("device", detector.device_),
        *VERSIONS.items(),
        ("Python", python_version()),
    ]
    return _page.section("Settings and versions", _page.settings(pairs))
