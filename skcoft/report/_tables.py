"""Scores of many images, of which some may be no images: as columns, as a file, as maps."""

import csv
from collections.abc import Mapping
from io import BytesIO, StringIO
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .._evidence.threshold import conformal_pvalues, labels_from_decision
from .._input.recognize import as_items
from .._input.unreadable import score_readable
from .._persistence.model_file import atomic_write

AT_ONCE, MAPS_AT_ONCE = 64, 8  # images; maps are as large as the images
BRIGHTEST = 6.0  # of maps: their scale is 0, black, to this, white or the brightest colour
COLUMNS = "path", "score", "decision", "p_value", "label", "error"
REGION_COLUMNS = "path", "top", "left", "bottom", "right", "area", "peak", "mean"


def score_images(detector, X, *, verbose=0):
    """Score images of which some may not be readable: these do not stop the others.

    Parameters
    ----------
    detector : COFTDetector
        A fitted one.
    X : images, see the user guide
        What to score; of the kind seen in fit. Of a collection, such as a list of paths, each
        item may fail alone, as with ``on_error="nan"``.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Columns, in the order of X: ``scores``, ``decisions`` and ``pvalues`` are those of
        ``score_samples``, ``decision_function`` and ``predict_pvalue``, NaN where an image could
        not be read. ``labels`` are those of ``predict``, +1 for normal and -1 for anomalous, and
        -1 as well for what could not be read: what nobody has looked at is not normal.
        ``errors`` say why there is no score, ``""`` where there is one.

    Raises
    ------
    ValueError
        If X is no collection of images, or none of them can be scored.

    Examples
    --------
    >>> from skcoft import COFTDetector
    >>> from skcoft.datasets import make_plates
    >>> from skcoft.report import score_images
    >>> plates = make_plates(5, 1, size=32, random_state=0)
    >>> detector = COFTDetector("embedded", max_iter=0).fit(plates.images[:4])
    >>> found = score_images(detector, [*plates.images[4:], "missing.png"])
    >>> int(found.labels[2]), found.errors[2]
    (-1, "Image file 'missing.png' does not exist.")
    """
    check_is_fitted(detector, "embedder_")
    items = as_items(X)
    if not items:  # one array, or nothing, which is an error
        scores = detector.score_samples(X if items is None else items)
        errors = np.full(len(scores), "", dtype=object)
    else:
        scores, errors = _scores_and_errors(detector, items, verbose)
    if all(errors):
        raise ValueError(f"None of the {len(errors)} images can be scored. {errors[0]}")
    failed = errors != ""
    decisions = scores - detector.offset_
    pvalues = conformal_pvalues(detector.calibration_scores_, scores)
    return Bunch(
        scores=scores,
        decisions=decisions,
        pvalues=np.where(failed, np.nan, pvalues),
        labels=labels_from_decision(decisions),
        errors=errors,
    )


def _scores_and_errors(detector, items, verbose):
    """Scores of the items of a list, NaN beside the reason where there is none."""
    scores, errors = np.full(len(items), np.nan), np.full(len(items), "", dtype=object)
    with tqdm(total=len(items), unit="image", disable=not verbose) as progress:
        for start in range(0, len(items), AT_ONCE):
            piece = items[start : start + AT_ONCE]
            scores[start : start + len(piece)], unreadable = score_readable(
                detector._score_chunk, detector._decode, piece, start
            )
            for image in unreadable:
                errors[image.index] = image.reason
            progress.update(len(piece))
    return scores, errors


def collection_of(X):
    """Return the items of a collection, which can be read more than once; an array as it is."""
    items = as_items(X)
    return X if items is None else items


def names_of(X, names=None):
    """Names of images, as text: those given, else paths, else numbers from 0."""
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    if names is None:
        shown = [next(iter(item.values())) if isinstance(item, Mapping) else item for item in X]
        paths = [fspath(item) if isinstance(item, (str, PathLike)) else None for item in shown]
        return [f"image {i}" if path is None else path for i, path in enumerate(paths)]
    names = [fspath(name) if isinstance(name, PathLike) else str(name) for name in names]
    if len(names) != n:
        raise ValueError(f"names must have one name for each image: {n}; got {len(names)}.")
    return names


def write_scores(found, path, names):
    """Write what was found of images as a table of comma-separated values.

    The columns are path, score, decision, p_value, label and error, in UTF-8. Numbers are written
    so that nothing of them is lost, and are empty where there are none. The file takes the place
    of an earlier one once all of it is written.

    Parameters
    ----------
    found : Bunch
        Of :func:`~skcoft.report.score_images`.
    path : str or path
        The file.
    names : sequence of str or paths
        What stands under path.

    Raises
    ------
    ValueError
        If there are more or fewer names than images.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from skcoft import COFTDetector
    >>> from skcoft.datasets import make_plates
    >>> from skcoft.report import score_images, write_scores
    >>> plates = make_plates(5, 1, size=32, random_state=0)
    >>> detector = COFTDetector("embedded", max_iter=0).fit(plates.images[:4])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "scores.csv")
    ...     write_scores(score_images(detector, plates.images[4:]), path, ["a.png", "b.png"])
    ...     print(open(path).readline().strip())
    path,score,decision,p_value,label,error
    """
    names = names_of(found.scores, names)
    columns = found.scores, found.decisions, found.pvalues
    rows = [
        [name, *("" if error else float(v) for v in numbers), label, error]
        for name, *numbers, label, error in zip(
            names, *columns, found.labels, found.errors, strict=True
        )
    ]
    _write_table(path, COLUMNS, rows)


def _write_table(path, columns, rows):
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    # names of files may hold bytes that are no text: they come back as they were
    atomic_write(path, text.getvalue().encode("utf-8", "surrogateescape"))


def write_regions(detector, X, path, names, *, threshold=None):
    """Write where images are anomalous as a table of comma-separated values.

    A row for each region of each image, that of the image's highest peak first. The columns are
    path, top, left, bottom, right (in pixels, ``image[top:bottom, left:right]``), area, peak and
    mean, in UTF-8. The file takes the place of an earlier one once all of it is written.

    Parameters
    ----------
    detector : COFTDetector
        A fitted one that has maps.
    X : images, see the user guide
        Where to look.
    path : str or path
        The file.
    names : sequence of str or paths
        What stands under path, for each image.
    threshold : float, default=None
        As in :meth:`~skcoft.COFTDetector.find_regions`.

    Raises
    ------
    ValueError
        If X is invalid, the detector has no maps, ``threshold`` is no number, or there are more or
        fewer names than images.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from skcoft import COFTDetector
    >>> from skcoft.datasets import make_plates
    >>> from skcoft.report import write_regions
    >>> plates = make_plates(5, 1, size=32, random_state=0)
    >>> detector = COFTDetector("embedded", max_iter=0).fit(plates.images[:4])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "regions.csv")
    ...     write_regions(detector, plates.images[4:], path, ["a.png", "b.png"])
    ...     print(open(path).readline().strip())
    path,top,left,bottom,right,area,peak,mean
    """
    items = collection_of(X)
    names = names_of(items, names)
    found = detector.find_regions(items, threshold=threshold)
    rows = [
        [name, *region.box, region.area, region.peak, region.mean]
        for name, regions in zip(names, found, strict=True)
        for region in regions
    ]
    _write_table(path, REGION_COLUMNS, rows)


def write_maps(detector, X, folder, names, *, verbose=0):
    """Write the anomaly map of every image as a gray PNG of 8 bits, all on one scale.

    Black, 0, is what the least likely spots of an unseen normal image reach on average, or less;
    white, 255, is 6 standard deviations of that above, or more. So a normal image stays dark, and
    so does what is outside of a detector's ``mask``.

    Parameters
    ----------
    detector : COFTDetector
        A fitted one that has maps.
    X : images, see the user guide
        What to map.
    folder : str or path
        Where the maps go; made where it is missing.
    names : sequence of str or paths
        A path for each image, relative to ``folder``; ``.png`` is added to other suffixes.
    verbose : int, default=0
        1 shows a progress bar.

    Raises
    ------
    ValueError
        If X is invalid, the detector has no maps, names are alike or one leads out of ``folder``.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from skcoft import COFTDetector
    >>> from skcoft.datasets import make_plates
    >>> from skcoft.report import write_maps
    >>> plates = make_plates(5, 1, size=32, random_state=0)
    >>> detector = COFTDetector("embedded", max_iter=0).fit(plates.images[:4])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_maps(detector, plates.images[4:], folder, ["new/a.jpg", "new/b.png"])
    ...     print(sorted(os.listdir(os.path.join(folder, "new"))))
    ['a.jpg.png', 'b.png']
    """
    items = collection_of(X)
    files = [_map_file(folder, name) for name in names_of(items, names)]
    if len(set(files)) < len(files):
        twice = next(file for i, file in enumerate(files) if file in files[:i])
        raise ValueError(f"names must differ, each map is a file; several give {str(twice)!r}.")
    for start in tqdm(range(0, len(files), MAPS_AT_ONCE), unit="batch", disable=not verbose):
        stop = start + MAPS_AT_ONCE
        maps = detector.anomaly_map(items[start:stop])
        for file, drawn in zip(files[start:stop], maps, strict=True):
            content = BytesIO()
            Image.fromarray((255 * shade(drawn)).round().astype(np.uint8)).save(content, "PNG")
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, content.getvalue())


def shade(drawn):
    """Bring a map to 0..1, the one scale of all images; 0 also where nothing is looked at."""
    return np.nan_to_num(np.clip(drawn / BRIGHTEST, 0, 1))


def _map_file(folder, name):
    if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).name:
        raise ValueError(f"names must be relative paths in the folder; got {name!r}.")
    return Path(folder, name if name.lower().endswith(".png") else f"{name}.png")
