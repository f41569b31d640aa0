"""Write a report: the results of a detector on images, as one HTML page."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from numbers import Integral
from os import PathLike
from platform import python_version
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._detector import COFTDetector, fitted_model
from .._input.input_files import index_inputs
from .._input.labels import check_labels
from .._input.reader import ReadOptions, read_input
from .._input.recognize import without_stream
from .._input.types import ImagesLike
from .._model import FittedModel
from .._persistence.model_file import VERSIONS
from .._utils.files import atomic_write, check_output_path, refuse_input
from .._utils.params import check_argument, number
from . import _html
from ._advice import suspect_section, threshold_section
from ._histogram import ANOMALOUS_COLOR, INK, NORMAL_COLOR, format_score, histogram
from ._images import REPORT_IMAGE_SIDE, load_image, overlay, to_data_uri
from ._tables import as_collection, image_names, score_images, take_items
from ._training_images import check_shots


def write_report(
    detector: COFTDetector,
    X: ImagesLike,
    path: str | PathLike[str],
    *,
    y: npt.ArrayLike | None = None,
    names: Iterable[Any] | None = None,
    shots: ImagesLike | None = None,
    title: str = "Report",
    worst: int = 12,
    verbose: int = 0,
) -> Bunch:
    """Score images and write a report to a single HTML file.

    The report shows how many images are anomalous, a histogram of the scores with the threshold,
    the images with the lowest scores beside their anomaly maps, a table of all images, and the
    settings of the detector. It lists unreadable images, and training images that may not be
    normal. With labels it shows what other thresholds would detect. The file has no scripts and
    loads nothing from elsewhere, so you can send or print it.

    Parameters
    ----------
    detector : COFTDetector
        The fitted detector.
    X : images, see the user guide
        Images to score, in the same format as in ``fit``.
    path : str or path
        The file to write. An existing file is replaced only when the new one is complete.
    y : array-like of shape (n_images,), default=None
        Labels: +1 for normal, -1 for anomalous. If given, the report compares the decisions with
        them.
    names : sequence of str or paths, default=None
        Names of the images in the report. If None, their paths or, if X does not hold paths, their
        numbers from 0.
    shots : images, default=None
        The training images in their order. If given, the report shows the nearest shot beside each
        image. Pass them here because a detector does not store its training images.
    title : str, default="Report"
        Heading of the page.
    worst : int, default=12
        Number of images to show, those with the lowest scores.
    verbose : int, default=0
        If 1, show a progress bar.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        The results, as returned by :func:`~skcoft.report.score_images`.

    Raises
    ------
    ValueError
        If X is invalid, none of the images can be scored, another argument is invalid, or the
        path is that of an image of X or shots.
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
    ...     results = write_report(detector, plates[4:], os.path.join(folder, "report.html"))
    >>> len(results.scores)
    3
    """
    check_output_path(path)
    check_is_fitted(detector, "embedder_")
    if not detector.embedder_.encoders_[0].network.defaults.needs_backbone:
        raise ValueError(
            "write_report needs images, but the detector was fitted on tabular data. Use "
            "score_images and write_scores."
        )
    if not isinstance(title, str):
        raise ValueError(f"title must be a string; got {title!r}.")
    check_argument("worst", worst, number(Integral, 0))
    X, shots = without_stream(X), without_stream(shots)
    refuse_input("path=", path, index_inputs(X=X, shots=shots))
    items = as_collection(X)
    names = image_names(items, names)
    labels = None if y is None else check_labels(items, y)
    if shots is not None:
        shots = as_collection(shots)
        check_shots(detector, shots)
    results = score_images(detector, items, verbose=verbose)
    unreadable = np.flatnonzero(results.errors != "")
    readable = np.flatnonzero(results.errors == "")
    order = readable[np.argsort(results.scores[readable], kind="stable")]  # lowest scores first
    sections = [
        _summary(results, labels, title),
        _html.alert(
            "Unreadable images. They count as anomalous.",
            [(names[i], results.errors[i]) for i in unreadable],
        )
        if len(unreadable)
        else "",
        suspect_section(detector, shots),
        _score_section(detector, results, labels),
        threshold_section(detector, results, labels, items, names),
        _lowest_scores(detector, items, results, names, order[:worst], shots) if worst else "",
        _table_of_images(results, labels, names, [*unreadable, *order]),
        _settings(detector),
    ]
    page = _html.page(title, [section for section in sections if section])
    atomic_write(path, page.encode())
    return results


def _summary(results: Bunch, y: np.ndarray | None, title: str) -> str:
    """Return the title, the main result in a sentence, and the key figures."""
    readable = results.errors == ""
    n, n_unreadable = int(readable.sum()), int((~readable).sum())
    n_flagged = int((readable & (results.labels == -1)).sum())
    lead = (
        f"{n_flagged} of {n} images {'is' if n_flagged == 1 else 'are'} anomalous."
        if n_flagged
        else f"None of {n} images is anomalous."
    )
    counts: list[tuple[object, str, str]] = [
        (n, "images", ""),
        (n_flagged, "anomalous", "anomalous"),
        (n - n_flagged, "normal", "normal"),
    ]
    if n_unreadable:
        counts.append((n_unreadable, "unreadable", ""))
    if y is not None:
        anomalies, normals = readable & (y == -1), readable & (y == 1)
        detected, false_alarms = (
            int((results.labels[mask] == -1).sum()) for mask in (anomalies, normals)
        )
        lead += (
            f" By their labels, {detected} of {anomalies.sum()} anomalies were detected and "
            f"{false_alarms} of {normals.sum()} normal images were flagged."
        )
        counts += [
            (f"{detected} / {anomalies.sum()}", "anomalies detected", "anomalous"),
            (f"{false_alarms} / {normals.sum()}", "normal images flagged", "normal"),
        ]
        if anomalies.any() and normals.any():
            auc = roc_auc_score(y[readable], results.scores[readable])
            counts.append((f"{auc:.3f}", "area under the ROC curve (1 is perfect)", ""))
    date = datetime.now(UTC).strftime("%d %B %Y at %H:%M UTC")
    note = f"Written on {date} by skcoft {VERSIONS['skcoft']}."
    return _html.heading(title, lead, note) + "\n" + _html.tiles(counts)


def _score_section(detector: COFTDetector, results: Bunch, y: np.ndarray | None) -> str:
    """Return the histogram of the scores and its explanation."""
    readable = (results.errors == "") & np.isfinite(results.scores)
    anomalous = (results.labels if y is None else y) == -1
    labels = ("normal", "anomalous") if y is None else ("labelled normal", "labelled anomalous")
    svg = histogram(
        results.scores[readable],
        anomalous[readable],
        detector.offset_,
        detector.calibration_scores_,
        labels,
    )
    n = len(detector.calibration_scores_)
    text = (
        "The score says how similar an image is to the training images, which are normal. If the "
        "score is below the threshold, the image is classified as anomalous. The p-value says how "
        f"rare a score this low is among normal images, of which {n} calibration scores are "
        "known: it is 1 plus the number of calibration scores that are not higher, divided by "
        f"{n + 1}. So it is at least {1 / (n + 1):.2g}."
    )
    hatch = f"repeating-linear-gradient(45deg,{ANOMALOUS_COLOR} 0 3px,#fff 3px 4px)"
    diamond = f"border:1.5px solid {INK};transform:rotate(45deg) scale(.75)"
    key = [
        (f"background:{NORMAL_COLOR}", labels[0]),
        (f"background:{hatch}", labels[1]),
        (diamond, "calibration scores"),
    ]
    content = _html.side_by_side(_html.chart(svg, key), _html.paragraph(text))
    return _html.section("Scores", content)


def _lowest_scores(
    detector: COFTDetector,
    items: Any,
    results: Bunch,
    names: Sequence[str],
    rows: np.ndarray,
    shots: ImagesLike | None,
) -> str:
    """Return the images with the lowest scores beside their maps and nearest shots."""
    chosen = take_items(items, rows)
    encoder = detector.embedder_.encoders_[0]
    read = read_input(chosen, ReadOptions.of(detector))
    maps, embeddings = _maps_and_embeddings(fitted_model(detector), read)
    inputs = encoder.select_modality(read)
    images = [
        load_image(inputs, i, encoder.bit_depth, REPORT_IMAGE_SIDE) for i in range(len(rows))
    ]
    columns = [  # of each card: the image, its map, the nearest shot
        [
            (to_data_uri(image), f"Image {names[i]}", "image")
            for image, i in zip(images, rows, strict=True)
        ]
    ]
    n_flagged = int((results.labels[results.errors == ""] == -1).sum())
    text = "The images are sorted by score, the lowest first."
    if n_flagged > len(rows):
        text += f" The table lists all {n_flagged} anomalous images."
    content = [_html.paragraph(text)]
    if maps is not None:
        overlays = map(to_data_uri, map(overlay, images, maps))
        alt = "Anomaly map; anomalous regions are bright"
        columns.append([(uri, alt, "anomaly map") for uri in overlays])
        text = (
            "The maps show where an image differs from the training images. All maps have one "
            "scale: 0 is the average value of the least likely patches of a normal image, and the "
            "unit is one standard deviation."
        )
        content += [_html.paragraph(text), _html.map_scale()]
    if shots is not None:
        columns.append(_nearest_shots(detector, shots, embeddings))
    spread = np.ptp(results.scores[results.errors == ""])
    cards = [
        _html.card(
            names[i],
            _html.VERDICTS[results.labels[i]],
            f"score {format_score(results.scores[i], spread)}, p = {results.pvalues[i]:.2g}",
            figures,
        )
        for i, *figures in zip(rows, *columns, strict=True)
    ]
    content.append(_html.cards(cards, wide=len(columns) > 2))
    return _html.section(f"The {len(rows)} images with the lowest scores", *content)


def _nearest_shots(
    detector: COFTDetector, shots: ImagesLike, embeddings: np.ndarray
) -> list[tuple[str, str, str]]:
    """Return the training image that is nearest to each embedding, as a figure of a card."""
    encoder = detector.embedder_.encoders_[0]
    inputs = encoder.select_modality(read_input(shots, ReadOptions.of(detector)))
    nearest = cdist(embeddings, detector.embeddings_).argmin(axis=1).tolist()
    uris = {
        shot: to_data_uri(load_image(inputs, shot, encoder.bit_depth, REPORT_IMAGE_SIDE))
        for shot in set(nearest)
    }
    return [(uris[shot], "The most similar training image", "nearest shot") for shot in nearest]


def _maps_and_embeddings(
    model: FittedModel, inputs: Any
) -> tuple[Iterable[np.ndarray] | None, np.ndarray]:
    """Return anomaly maps, None without a component that has them, and embeddings."""
    inputs = model.match(inputs)
    if not model.has_maps:
        return None, model.embed(inputs)
    return model.maps_and_embeddings(inputs)


def _table_of_images(
    results: Bunch, y: np.ndarray | None, names: Sequence[str], order: Sequence[int]
) -> str:
    """Return the table of all images: unreadable ones first, then the lowest scores."""
    columns = [
        ("Image", "name"),
        ("Decision", ""),
        ("Score", "number"),
        ("p-value", "number"),
        *([] if y is None else [("Label", "")]),
    ]
    spread, rows = np.ptp(results.scores[results.errors == ""]), []
    for i in order:
        unreadable, decision = results.errors[i] != "", results.labels[i]
        cells = [
            _html.escape(names[i]),
            _html.UNREADABLE_VERDICT if unreadable else _html.VERDICTS[decision],
            "" if unreadable else format_score(results.scores[i], spread),
            "" if unreadable else f"{results.pvalues[i]:.3f}",
        ]
        if y is not None:
            cells.append({1: "normal", -1: "anomalous"}[y[i]])
        rows.append((cells, "mismatch" if y is not None and y[i] != decision else ""))
    caption = f"{len(order)} images, the lowest scores first."
    if y is not None:
        caption += " In shaded rows, the decision differs from the label."
    return _html.section("All images", _html.table(caption, columns, rows))


def _settings(detector: COFTDetector) -> str:
    """Return the settings of the detector and the versions of the packages."""
    params = detector.get_params(deep=False)
    defaults = type(detector)().get_params(deep=False)
    changed = [f"{k}={v!r}" for k, v in params.items() if repr(v) != repr(defaults[k])]
    names = dict.fromkeys(encoder.modality for encoder in detector.embedder_.encoders_)
    pairs = [
        ("backbone", params["backbone"]),
        ("weights", detector.weights_ or "random"),
        ("modalities", ", ".join(str(name) for name in names if name is not None) or "one image"),
        ("training images (shots)", len(detector.embeddings_)),
        ("iterations of fine-tuning", detector.n_iter_),
        ("training images that may not be normal", len(detector.suspect_shots_)),
        ("threshold", f"{detector.offset_:.6g}"),
        ("calibration scores", len(detector.calibration_scores_)),
        ("parameters changed from defaults", " ".join(", ".join(changed).split()) or "none"),
        ("device", detector.device_),
        *VERSIONS.items(),
        ("Python", python_version()),
    ]
    return _html.section("Settings and versions", _html.definition_list(pairs))
