"""The commands: read folders, call the public API, write files, and return exit codes."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from .._detector import COFTDetector
from .._input.mask import read_mask
from ..datasets._selection import select_normal, select_to_score
from ..report import score_images, write_maps, write_regions, write_report, write_scores
from .console import complain, is_watched, say
from .outputs import check_outputs

SUCCESS, SOME_UNREADABLE = 0, 1


def _fit(options: argparse.Namespace, written: list[str]) -> int:
    check_outputs(options)
    if options.max_fpr is not None and options.calibrate is None:
        raise ValueError(
            "--max-fpr needs --calibrate. Pass a folder of normal images that are not fitted on."
        )
    shots = _normal_images(options.normal_folder, options.normal)
    calibration = options.calibrate and _normal_images(
        options.calibrate, options.normal, "validation"
    )
    mask = options.mask and read_mask(options.mask)
    if mask is not None:
        say(f"{options.mask}: {mask.mean():.1%} of the image is inside the mask")
    detector = COFTDetector(
        options.backbone,
        weights=options.weights,
        max_pixels=options.max_pixels,
        mask=mask,
        max_iter=options.iterations,
        random_state=options.seed,
        device=options.device,
        verbose=int(is_watched()),
    ).fit(shots)
    if calibration is not None:
        rate = {} if options.max_fpr is None else {"max_fpr": options.max_fpr}
        detector.set_threshold(calibration, **rate)
    detector.save(options.output)
    say(f"{options.output}: fitted on {len(shots)} images, threshold {detector.offset_:.6g}")
    return SUCCESS


def _score(options: argparse.Namespace, written: list[str]) -> int:
    verbose = int(is_watched())
    paths, names, y = _images_to_score(options.folder, options.normal)
    check_outputs(options, names)
    detector = COFTDetector.load(options.model, device=options.device)
    results = score_images(detector, paths, verbose=verbose)
    write_scores(results, options.output, names)
    written.append(repr(str(options.output)))
    readable = np.flatnonzero(results.errors == "")
    readable_names = [names[i] for i in readable]
    if options.maps is not None:
        written.append(f"a part of {str(options.maps)!r}")
        write_maps(detector, paths[readable], options.maps, readable_names, verbose=verbose)
        written[-1] = repr(str(options.maps))
    if options.regions is not None:
        write_regions(detector, paths[readable], options.regions, readable_names)
    return _summarize(options.output, results, y)


def _report(options: argparse.Namespace, written: list[str]) -> int:
    check_outputs(options)
    paths, names, y = _images_to_score(options.folder, options.normal)
    detector = COFTDetector.load(options.model, device=options.device)
    results = write_report(
        detector,
        paths,
        options.output,
        y=y,
        names=names,
        shots=options.shots and _normal_images(options.shots, options.normal),
        title=options.title or options.folder.resolve().name,
        worst=options.worst,
        verbose=int(is_watched()),
    )
    return _summarize(options.output, results, y)


def _normal_images(folder: Path, normal: str | None, split: str = "train") -> np.ndarray:
    """Return the paths of the normal images in one split; say what is used if it is not plain."""
    selection = select_normal(folder, normal, split)
    _print_note(selection.note)
    return selection.paths


def _images_to_score(
    folder: Path, normal: str | None
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Return the paths, the names relative to the folder, and the labels, None if uncertain."""
    selection = select_to_score(folder, normal)
    _print_note(selection.note)
    names = [Path(path).relative_to(folder).as_posix() for path in selection.paths]
    return selection.paths, names, selection.labels


def _print_note(note: str) -> None:
    if note:
        complain(note)


def _summarize(output: Path, results: Bunch, y: np.ndarray | None) -> int:
    """Print a summary of the results; return the exit code."""
    readable = results.errors == ""
    anomalous = int((results.labels[readable] == -1).sum())
    summary = f"{output}: {readable.sum()} images, {anomalous} anomalous"
    if y is not None and len(set(y[readable])) == 2:
        area = roc_auc_score(y[readable], results.scores[readable])
        summary += f", area under the ROC curve {area:.3f}"
    say(summary)
    if readable.all():
        return SUCCESS
    errors = results.errors[~readable]
    complain(f"warning: {len(errors)} of {len(readable)} images could not be read. {errors[0]}")
    return SOME_UNREADABLE


COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "fit": _fit,
    "score": _score,
    "report": _report,
}
