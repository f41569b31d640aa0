"""The command line: parse arguments, call the public API, and turn errors into exit codes."""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from ._detector import COFTDetector
from ._input.mask import read_mask
from ._utils.files import check_output_path
from ._version import __version__
from .datasets._selection import select_normal, select_to_score
from .report import score_images, write_maps, write_regions, write_report, write_scores

SUCCESS, SOME_UNREADABLE, FAILURE, INTERRUPTED = 0, 1, 2, 130
# shown without a traceback; any other error is a bug
USER_ERRORS = OSError, ValueError, TypeError, ImportError, FloatingPointError
EXIT_CODES = (
    "The exit code is 0 on success, 1 if some images could not be read, and 2 if nothing could be "
    "done. A message gives the reason."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return options.run(options)
    except USER_ERRORS as error:
        print(f"skcoft: error: {error}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        print("skcoft: interrupted", file=sys.stderr)
        return INTERRUPTED


def _show_warning(message: object, *_args: object, **_options: object) -> None:
    """Show a warning as a message, without a line of code."""
    print(f"skcoft: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("skcoft", description=HELP["skcoft"], epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=__version__, help=HELP["version"])
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    fit = _add_command(commands.add_parser, "fit", _fit, "normal_folder")
    fit.add_argument("--backbone", default=COFTDetector().backbone, help=HELP["backbone"])
    fit.add_argument("--weights", default="pretrained", metavar="FILE", help=HELP["weights"])
    fit.add_argument("--max-pixels", type=int, metavar="N", help=HELP["max_pixels"])
    fit.add_argument("--mask", type=Path, metavar="FILE", help=HELP["mask"])
    fit.add_argument("--iterations", type=int, default=20, metavar="N", help=HELP["iterations"])
    fit.add_argument("--seed", type=int, default=0, metavar="N", help=HELP["seed"])
    fit.add_argument("--calibrate", type=Path, metavar="FOLDER", help=HELP["calibrate"])
    fit.add_argument("--max-fpr", type=float, metavar="RATE", help=HELP["max_fpr"])
    score = _add_command(commands.add_parser, "score", _score, "model", "folder")
    score.add_argument("--maps", type=Path, metavar="FOLDER", help=HELP["maps"])
    score.add_argument("--regions", type=Path, metavar="FILE", help=HELP["regions"])
    report = _add_command(commands.add_parser, "report", _report, "model", "folder")
    report.add_argument("--shots", type=Path, metavar="FOLDER", help=HELP["shots"])
    report.add_argument("--title", help=HELP["title"])
    report.add_argument("--worst", type=int, default=12, metavar="N", help=HELP["worst"])
    return parser


def _add_command(
    add_parser: Callable[..., argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    *positional: str,
) -> argparse.ArgumentParser:
    """Add a command with the arguments that all commands share."""
    command = add_parser(name, help=HELP[name], description=HELP[name], epilog=EXIT_CODES)
    for argument in positional:
        command.add_argument(argument, type=Path, help=HELP[argument])
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=HELP[f"output of {name}"]
    )
    command.add_argument("--normal", default=None, metavar="NAME", help=HELP["normal"])
    command.add_argument("--device", help=HELP["device"])
    command.set_defaults(run=run)
    return command


HELP = {
    "skcoft": "Few-shot image anomaly detection: a handful of normal images in, decisions out.",
    "version": "Print the version and exit.",
    "fit": "Fit a detector on a folder of normal images and write it to a model file.",
    "score": "Score the images in a folder and write a table.",
    "report": "Score the images in a folder and write a report as a single HTML file.",
    "normal_folder": (
        "Folder with 4 to 64 normal images, or a data set. If it is a data set, its normal class "
        "is used, from the folder train if there is one."
    ),
    "model": "Model file that skcoft fit or detector.save wrote.",
    "folder": (
        "Folder with the images, which may lie in subfolders. If it is a data set with a folder "
        "test, only the images in that folder are scored."
    ),
    "output of fit": "Model file to write.",
    "output of score": (
        "Table to write, as comma-separated values: path, score, decision (score minus "
        "threshold), p_value, label (1 is normal, -1 is anomalous) and error. An unreadable image "
        "has no numbers, the label -1 and the reason as error."
    ),
    "output of report": "Report to write.",
    "normal": (
        "Name of the subfolder with the normal images. Images in the folders beside it are "
        "anomalies. By default it is the subfolder called good, normal or ok."
    ),
    "device": "Device of the network, such as cpu or cuda. By default the best one is used.",
    "backbone": (
        "Name of an architecture of timm, or embedded, which comes with skcoft. The default is "
        "%(default)s."
    ),
    "weights": (
        "File with the weights of the backbone. By default those of an installed package are used."
    ),
    "max_pixels": (
        "Maximum number of pixels per image, height times width. Larger images are downscaled. "
        "Raise it if defects are small; run time is proportional to it. The default is twice the "
        "number of pixels that the backbone was trained on."
    ),
    "mask": (
        "Region of interest, for parts that are photographed in a fixed place: an image with the "
        "aspect ratio of the photographs, white or another bright colour inside, black or "
        "transparent outside. Pixels outside have no influence. The share inside is printed."
    ),
    "iterations": (
        "Number of fine-tuning iterations. The default is %(default)s; 0 leaves the backbone "
        "frozen, which is faster."
    ),
    "seed": "Random seed; the same seed gives the same model. The default is %(default)s.",
    "calibrate": (
        "Folder with more normal images, none of which is in the folder to fit on. The threshold "
        "is set from them, so that the rate of --max-fpr is guaranteed. From a data set with a "
        "folder validation, the normal images in that folder are used."
    ),
    "max_fpr": (
        "Maximum false positive rate: the share of unseen normal images that may be labelled "
        "anomalous. The default is 0.05. It requires --calibrate, with at least 19 images for "
        "0.05 and 99 for 0.01."
    ),
    "maps": (
        "Folder for the anomaly maps. The map of each image is a grayscale PNG under the path of "
        "the image. All maps are on one scale: black is the average value of the least likely "
        "patches of a normal image, or less, and white is 6 standard deviations above it, or more."
    ),
    "regions": (
        "File for the anomalous regions, as comma-separated values with one row per region: path, "
        "top, left, bottom, right (pixels), area, peak and mean of the anomaly map. About 5 %% of "
        "unseen normal images have a region, or the share given as --max-fpr."
    ),
    "shots": (
        "Folder with the images that the model was fitted on, in the same files. The report shows "
        "the nearest one beside each image."
    ),
    "title": "Heading of the report. By default it is the name of the folder.",
    "worst": "Number of images with the lowest scores to show. The default is %(default)s.",
}


def _fit(options: argparse.Namespace) -> int:
    check_output_path(options.output)
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
        print(f"{options.mask}: {mask.mean():.1%} of the image is inside the mask")
    detector = COFTDetector(
        options.backbone,
        weights=options.weights,
        max_pixels=options.max_pixels,
        mask=mask,
        max_iter=options.iterations,
        random_state=options.seed,
        device=options.device,
        verbose=int(sys.stderr.isatty()),
    ).fit(shots)
    if calibration is not None:
        rate = {} if options.max_fpr is None else {"max_fpr": options.max_fpr}
        detector.set_threshold(calibration, **rate)
    detector.save(options.output)
    print(f"{options.output}: fitted on {len(shots)} images, threshold {detector.offset_:.6g}")
    return SUCCESS


def _score(options: argparse.Namespace) -> int:
    check_output_path(options.output)
    if options.maps is not None:
        _check_maps_folder(options.maps, options.folder)
    if options.regions is not None:
        check_output_path(options.regions)
    verbose = int(sys.stderr.isatty())
    detector = COFTDetector.load(options.model, device=options.device)
    paths, names, y = _images_to_score(options.folder, options.normal)
    results = score_images(detector, paths, verbose=verbose)
    write_scores(results, options.output, names)
    readable = np.flatnonzero(results.errors == "")
    readable_names = [names[i] for i in readable]
    if options.maps is not None:
        write_maps(detector, paths[readable], options.maps, readable_names, verbose=verbose)
    if options.regions is not None:
        write_regions(detector, paths[readable], options.regions, readable_names)
    return _summarize(options.output, results, y)


def _report(options: argparse.Namespace) -> int:
    check_output_path(options.output)
    detector = COFTDetector.load(options.model, device=options.device)
    paths, names, y = _images_to_score(options.folder, options.normal)
    results = write_report(
        detector,
        paths,
        options.output,
        y=y,
        names=names,
        shots=options.shots and _normal_images(options.shots, options.normal),
        title=options.title or options.folder.resolve().name,
        worst=options.worst,
        verbose=int(sys.stderr.isatty()),
    )
    return _summarize(options.output, results, y)


def _check_maps_folder(maps: Path, folder: Path) -> None:
    """Raise an error if maps cannot be written, or would count as images in the next run."""
    if maps.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--maps {str(maps)!r} lies in the folder of images {str(folder)!r}. Its maps would "
            "count as images in the next run. Pass another folder."
        )
    if maps.exists() and not maps.is_dir():
        raise NotADirectoryError(f"--maps {str(maps)!r} is a file. Pass a folder.")


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
        print(f"skcoft: {note}", file=sys.stderr)


def _summarize(output: Path, results: Bunch, y: np.ndarray | None) -> int:
    """Print a summary of the results; return the exit code."""
    readable = results.errors == ""
    anomalous = int((results.labels[readable] == -1).sum())
    summary = f"{output}: {readable.sum()} images, {anomalous} anomalous"
    if y is not None and len(set(y[readable])) == 2:
        area = roc_auc_score(y[readable], results.scores[readable])
        summary += f", area under the ROC curve {area:.3f}"
    print(summary)
    if readable.all():
        return SUCCESS
    errors = results.errors[~readable]
    print(
        f"skcoft: warning: {len(errors)} of {len(readable)} images could not be read. {errors[0]}",
        file=sys.stderr,
    )
    return SOME_UNREADABLE
