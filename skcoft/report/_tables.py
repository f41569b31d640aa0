"""Scores of many images, regions and anomaly maps, as columns and as files."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO, StringIO
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .._detector import COFTDetector, fitted_model
from .._evidence.threshold import conformal_pvalues, labels_from_decision
from .._input.input_files import index_inputs
from .._input.reader import ReadOptions, read_input
from .._input.recognize import Source, as_items, without_stream
from .._input.types import ImagesLike
from .._utils.files import (
    atomic_write,
    check_output_path,
    index_files,
    refuse_input,
    remove_stale,
    replace_file,
)
from .._utils.text import printable, quote_name
from ._images import scale_map, to_uint8

SCORING_CHUNK_SIZE = 64  # images per update of the progress bar
MAPS_CHUNK_SIZE = 8  # images whose maps are in memory at once; maps are as large as images
SCORE_COLUMNS = "path", "score", "decision", "p_value", "label", "error"
REGION_COLUMNS = "path", "top", "left", "bottom", "right", "area", "peak", "mean"


def score_images(detector: COFTDetector, X: ImagesLike, *, verbose: int = 0) -> Bunch:
    """Score images; unreadable ones do not stop the others.

    Parameters
    ----------
    detector : COFTDetector
        The fitted detector.
    X : images, see the user guide
        Images to score, in the same format as in ``fit``. If X is a collection, such as a list of
        paths, each item may fail on its own, as with ``on_error="nan"``.
    verbose : int, default=0
        If 1, show a progress bar.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Arrays of shape (n_images,), in the order of X:

        scores : ndarray of float
            As returned by ``score_samples``; NaN for unreadable images.
        decisions : ndarray of float
            As returned by ``decision_function``; NaN for unreadable images.
        pvalues : ndarray of float
            As returned by ``predict_pvalue``; NaN for unreadable images.
        labels : ndarray of int
            As returned by ``predict``: +1 for normal, -1 for anomalous. Unreadable images are
            labelled -1, because they were not checked.
        errors : ndarray of str
            The reason why an image is unreadable; ``""`` for readable images.

    Raises
    ------
    ValueError
        If X is not a collection of images, or none of them can be scored.

    Examples
    --------
    >>> from skcoft import COFTDetector
    >>> from skcoft.datasets import make_plates
    >>> from skcoft.report import score_images
    >>> plates = make_plates(5, 1, size=32, random_state=0)
    >>> detector = COFTDetector("embedded", max_iter=0).fit(plates.images[:4])
    >>> results = score_images(detector, [*plates.images[4:], "missing.png"])
    >>> int(results.labels[2]), results.errors[2]
    (-1, "Image file 'missing.png' does not exist.")
    """
    check_is_fitted(detector, "embedder_")
    items = as_items(X)
    if not items:  # one array; an empty list, for which score_samples raises an error
        scores = detector.score_samples(X if items is None else items)
        errors = np.full(len(scores), "", dtype=object)
    else:
        scores, errors = _scores_and_errors(detector, items, verbose)
    if all(errors):
        raise ValueError(f"None of the {len(errors)} images in X can be scored. {errors[0]}")
    decisions = scores - detector.offset_
    pvalues = conformal_pvalues(detector.calibration_scores_, scores)
    return Bunch(
        scores=scores,
        decisions=decisions,
        pvalues=np.where(errors == "", pvalues, np.nan),
        labels=labels_from_decision(decisions),
        errors=errors,
    )


def _scores_and_errors(
    detector: COFTDetector, items: Sequence[Any], verbose: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of each item, NaN if it is unreadable, and the reasons."""
    model, options = fitted_model(detector), ReadOptions.of(detector)

    def read(source: Source, first: int) -> Any:
        return model.match(read_input(source, options, first=first))

    scores, errors = np.full(len(items), np.nan), np.full(len(items), "", dtype=object)
    with tqdm(total=len(items), unit="image", disable=not verbose) as progress:
        for start in range(0, len(items), SCORING_CHUNK_SIZE):
            piece = items[start : start + SCORING_CHUNK_SIZE]
            scores[start : start + len(piece)], unreadable = model.score_readable(
                piece, read, detector.memory, start
            )
            for image in unreadable:
                errors[image.index] = image.reason
            progress.update(len(piece))
    return scores, errors


def as_collection(X: ImagesLike) -> Any:
    """Return the items of a collection as a list, which can be read again; arrays as they are."""
    items = as_items(X)
    return X if items is None else items


def take_items(items: Any, rows: np.ndarray) -> Any:
    """Return some of the items of a list; an array or tensor stays one."""
    return [items[i] for i in rows] if isinstance(items, list) else items[rows]


def image_names(X: Any, names: Iterable[Any] | None = None) -> list[str]:
    """Return a name for each image: the one passed, else its path, else its number."""
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    if names is None:
        first = [next(iter(item.values())) if isinstance(item, Mapping) else item for item in X]
        paths = [fspath(item) if isinstance(item, (str, PathLike)) else None for item in first]
        return [f"image {i}" if path is None else path for i, path in enumerate(paths)]
    names = [fspath(name) if isinstance(name, PathLike) else str(name) for name in names]
    if len(names) != n:
        raise ValueError(f"names has {len(names)} entries for {n} images. Pass one for each.")
    return names


def write_scores(found: Bunch, path: str | PathLike[str], names: Iterable[Any]) -> None:
    """Write the results of ``score_images`` to a CSV file.

    The columns are path, score, decision, p_value, label and error; the encoding is UTF-8.
    Numbers are written with full precision. They are empty for unreadable images. An existing file
    is replaced only when the new one is complete.

    A name that a terminal, a spreadsheet or a reader of tables could take for something else is
    written as a JSON string. These names have characters that are not printable, semicolons or
    outer spaces, start with one of ``= + - @ "``, or mean a missing value, such as ``NA``. The
    line ``json.loads(cell) if cell.startswith('"') else cell`` returns the name.

    Parameters
    ----------
    found : Bunch
        The results, as returned by :func:`~skcoft.report.score_images`.
    path : str or path
        The file to write.
    names : sequence of str or paths
        Entries of the column path, one for each image.

    Raises
    ------
    ValueError
        If the number of names differs from the number of images, or the path is that of a name.
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
    names = image_names(found.scores, names)
    check_output_path(path)
    refuse_input("path=", path, index_files((name, "an image of names") for name in names))
    columns = found.scores, found.decisions, found.pvalues
    rows = [
        [name, *("" if error else float(value) for value in values), label, printable(error)]
        for name, *values, label, error in zip(
            map(quote_name, names), *columns, found.labels, found.errors, strict=True
        )
    ]
    _write_csv(path, SCORE_COLUMNS, rows)


def _write_csv(
    path: str | PathLike[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    atomic_write(path, text.getvalue().encode())


def write_regions(
    detector: COFTDetector,
    X: ImagesLike,
    path: str | PathLike[str],
    names: Iterable[Any],
    *,
    threshold: float | None = None,
) -> None:
    """Find anomalous regions and write them to a CSV file.

    Each region is a row; the regions of an image are sorted by their peak, highest first. The
    columns are path, top, left, bottom, right (in pixels, ``image[top:bottom, left:right]``), area
    (in pixels), peak and mean (of the anomaly map); the encoding is UTF-8. Names are written as by
    :func:`~skcoft.report.write_scores`. An existing file is replaced only when the new one is
    complete.

    Parameters
    ----------
    detector : COFTDetector
        The fitted detector; it must provide anomaly maps.
    X : images, see the user guide
        Images to search for regions.
    path : str or path
        The file to write.
    names : sequence of str or paths
        Entries of the column path, one for each image.
    threshold : float, default=None
        Value of the anomaly map above which a pixel belongs to a region, see
        :meth:`~skcoft.COFTDetector.find_regions`.

    Raises
    ------
    ValueError
        If X is invalid, the detector does not provide anomaly maps, ``threshold`` is not a number,
        the number of names differs from the number of images, or the path is that of an image.
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
    check_output_path(path)
    X = without_stream(X)
    refuse_input("path=", path, index_inputs(X=X))
    items = as_collection(X)
    names = image_names(items, names)
    rows = [
        [quote_name(name), *region.box, region.area, region.peak, region.mean]
        for name, regions in zip(
            names, detector.find_regions(items, threshold=threshold), strict=True
        )
        for region in regions
    ]
    _write_csv(path, REGION_COLUMNS, rows)


def write_maps(
    detector: COFTDetector,
    X: ImagesLike,
    folder: str | PathLike[str],
    names: Iterable[Any],
    *,
    verbose: int = 0,
) -> None:
    """Write the anomaly map of each image to an 8-bit grayscale PNG, all on one scale.

    Values up to 0, the average value of the least likely patches of an unseen normal image, are
    black. Values from 6, which is 6 standard deviations higher, are white. So the map of a normal
    image is dark. Pixels outside of the detector's ``mask`` are black.

    Parameters
    ----------
    detector : COFTDetector
        The fitted detector; it must provide anomaly maps.
    X : images, see the user guide
        Images to map.
    folder : str or path
        The folder for the maps; it is created if it does not exist.
    names : sequence of str or paths
        A path for each image, relative to ``folder``. ``.png`` is appended unless the name ends
        in it.
    verbose : int, default=0
        If 1, show a progress bar.

    Raises
    ------
    ValueError
        If X is invalid, the detector does not provide anomaly maps, a name occurs twice or leads
        out of ``folder``, also through a link, or a map would replace an image of X.
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
    X = without_stream(X)
    inputs, items = index_inputs(X=X), as_collection(X)
    files = map_files(folder, image_names(items, names))
    for file in files:
        refuse_input("The map ", file, inputs)
    for parent in {file.parent for file in files}:
        remove_stale(parent)
    for start in tqdm(range(0, len(files), MAPS_CHUNK_SIZE), unit="batch", disable=not verbose):
        stop = start + MAPS_CHUNK_SIZE
        maps = detector.anomaly_map(items[start:stop])
        for file, anomaly_map in zip(files[start:stop], maps, strict=True):
            content = BytesIO()
            Image.fromarray(to_uint8(scale_map(anomaly_map))).save(content, "PNG")
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, content.getvalue())


def map_files(folder: str | PathLike[str], names: Iterable[str]) -> list[Path]:
    """Return the files of the maps of some images; ValueError if one cannot be written there."""
    files = []
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).name:
            raise ValueError(
                f"names holds {name!r}. Pass paths relative to the folder and inside it."
            )
        files.append(Path(folder, name if name.lower().endswith(".png") else f"{name}.png"))
    real_files = [os.path.realpath(file) for file in files]
    counts = Counter(map(os.path.normcase, real_files))
    if len(counts) < len(files):
        (twice, _), *_ = counts.most_common(1)
        raise ValueError(
            f"names holds {str(twice)!r} more than once. Pass different names, because each map "
            "is a file."
        )
    root = os.path.realpath(folder)
    pairs = zip(files, real_files, strict=True)
    outside = [file for file, real in pairs if not Path(real).is_relative_to(root)]
    if outside:
        raise ValueError(
            f"The map {str(outside[0])!r} is a link to a file outside of {str(folder)!r}. Remove "
            "the link or pass another folder."
        )
    return files
