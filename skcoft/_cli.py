"""The command line: arguments to calls of the public API, errors to messages and exit codes."""

import argparse
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from sklearn.metrics import roc_auc_score

from ._detector import COFTDetector
from ._utils.files import check_output_path
from ._version import __version__
from .datasets import load_folder
from .report import score_images, write_maps, write_regions, write_report, write_scores

DONE, SOME_NOT_READ, WRONG, INTERRUPTED = 0, 1, 2, 130
USERS = OSError, ValueError, TypeError, ImportError, FloatingPointError  # mistakes, not ours
CODES = (
    "The exit code is 0 when all is done, 1 when it is done but some images could not be read, "
    "and 2 when nothing could be done; a message says why."
)


def main(arguments=None):
    """Run a command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _plain_warnings():
            return options.run(options)
    except USERS as error:
        print(f"skcoft: error: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("skcoft: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser():
    parser = argparse.ArgumentParser("skcoft", description=_say("skcoft"), epilog=CODES)
    parser.add_argument("--version", action="version", version=__version__, help=_say("version"))
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    fit = _command(commands, "fit", _fit, "normal_folder")
    fit.add_argument("--backbone", default=COFTDetector().backbone, help=_say("backbone"))
    fit.add_argument("--weights", default="pretrained", metavar="FILE", help=_say("weights"))
    fit.add_argument("--max-pixels", type=int, metavar="N", help=_say("max_pixels"))
    fit.add_argument("--mask", type=Path, metavar="FILE", help=_say("mask"))
    fit.add_argument("--iterations", type=int, default=20, metavar="N", help=_say("iterations"))
    fit.add_argument("--seed", type=int, default=0, metavar="N", help=_say("seed"))
    fit.add_argument("--calibrate", type=Path, metavar="FOLDER", help=_say("calibrate"))
    fit.add_argument("--max-fpr", type=float, metavar="RATE", help=_say("max_fpr"))
    score = _command(commands, "score", _score, "model", "folder")
    score.add_argument("--maps", type=Path, metavar="FOLDER", help=_say("maps"))
    score.add_argument("--regions", type=Path, metavar="FILE", help=_say("regions"))
    report = _command(commands, "report", _report, "model", "folder")
    report.add_argument("--shots", type=Path, metavar="FOLDER", help=_say("shots"))
    report.add_argument("--title", help=_say("title"))
    report.add_argument("--worst", type=int, default=12, metavar="N", help=_say("worst"))
    return parser


def _command(commands, name, run, *positional):
    said = _say(name)
    command = commands.add_parser(name, help=said, description=said, epilog=CODES)
    for argument in positional:
        command.add_argument(argument, type=Path, help=_say(argument))
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=_say(f"output of {name}")
    )
    command.add_argument("--normal", default=None, metavar="NAME", help=_say("normal"))
    command.add_argument("--device", help=_say("device"))
    command.set_defaults(run=run)
    return command


def _say(name):
    return TEXTS[name]


TEXTS = {
    "skcoft": "Few-shot image anomaly detection: a handful of normal images in, decisions out.",
    "version": "Print the version and do nothing else.",
    "fit": "Fit a detector on a folder of normal images and write it to a model file.",
    "score": "Score the images of a folder and write a table.",
    "report": "Score the images of a folder and write a report to show, as one HTML file.",
    "normal_folder": (
        "The folder holds the normal images, 4 to 64 of them, or it is a data set: then those of "
        "its normal class count, of its folder train where there is one."
    ),
    "model": "The detector is read from this file, which skcoft fit or detector.save wrote.",
    "folder": (
        "The folder holds the images, in subfolders or not. Of a data set with a folder test, "
        "those in it are scored."
    ),
    "output of fit": "The model is written to this file.",
    "output of score": (
        "The table is written to this file as comma-separated values: path, score, decision (the "
        "score less the threshold), p_value, label (1 is normal, -1 is anomalous) and error. An "
        "image that cannot be read has no numbers, label -1 and the reason."
    ),
    "output of report": "The report is written to this file.",
    "normal": (
        "The images in the subfolder of this name are normal, those in others are anomalies. By "
        "default it is the one called good, normal or ok."
    ),
    "device": "The network runs on this device, such as cpu or cuda; by default on the best one.",
    "backbone": (
        "The architecture is timm's of this name, or embedded, which comes with skcoft. The "
        "default is %(default)s."
    ),
    "weights": "The weights are in this file; by default they are those of an installed package.",
    "max_pixels": (
        "No more pixels than these are looked at in an image, height times width. Raise it where "
        "defects are small; time grows with it. The default is twice what the backbone was "
        "trained on."
    ),
    "mask": (
        "This image, in the photographs' shape, is white where they are looked at, for parts "
        "that lie in one place. What is where it is black has no influence."
    ),
    "iterations": (
        "The backbone is fine-tuned for this many iterations. The default is %(default)s; 0 "
        "leaves it as it is, which is faster."
    ),
    "seed": "The same seed gives the same model. The default is %(default)s.",
    "calibrate": (
        "This folder holds more normal images, other than those to fit on: the threshold is set "
        "by them, so that what --max-fpr says holds."
    ),
    "max_fpr": (
        "Of unseen normal images no more than this share is called anomalous, 0.05 by default. It "
        "needs --calibrate, with 19 images for 0.05 and 99 for 0.01."
    ),
    "maps": (
        "The anomaly map of each image is written here as a gray PNG under the image's own path. "
        "All are on one scale: black is what the least likely spots of a normal image reach on "
        "average, or less, white is 6 standard deviations above that, or more."
    ),
    "regions": (
        "Where images are anomalous is written to this file as comma-separated values, a row for "
        "each region: path, top, left, bottom, right (pixels), area, peak and mean of the anomaly "
        "map. About 5 %% of unseen normal images, or --max-fpr of them, have one."
    ),
    "shots": (
        "This folder holds the images that the model was fitted on, in the same files: the report "
        "shows the nearest one beside each image."
    ),
    "title": "The report has this heading; by default it is the name of the folder.",
    "worst": "So many images with the lowest scores are shown. The default is %(default)s.",
}


def _fit(options):
    check_output_path(options.output)
    if options.max_fpr is not None and options.calibrate is None:
        raise ValueError("--max-fpr needs --calibrate, a folder of other normal images.")
    shots = _normal_images(options.normal_folder, options.normal)
    more = options.calibrate and _normal_images(options.calibrate, options.normal)
    detector = COFTDetector(
        options.backbone,
        weights=options.weights,
        max_pixels=options.max_pixels,
        mask=options.mask and _read_mask(options.mask),
        max_iter=options.iterations,
        random_state=options.seed,
        device=options.device,
        verbose=int(_at_terminal()),
    ).fit(shots)
    if more is not None:
        rate = {} if options.max_fpr is None else {"max_fpr": options.max_fpr}
        detector.set_threshold(more, **rate)
    detector.save(options.output)
    print(f"{options.output}: fitted on {len(shots)} images, threshold {detector.offset_:.6g}")
    return DONE


def _read_mask(path):
    """Read an image as a mask: True where it is white, as far as it is gray."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L")) > 127
    except UnidentifiedImageError as error:
        raise ValueError(f"--mask {str(path)!r} is no image.") from error


def _score(options):
    check_output_path(options.output)
    if options.maps is not None:
        _check_maps(options.maps, options.folder)
    if options.regions is not None:
        check_output_path(options.regions)
    detector = COFTDetector.load(options.model, device=options.device)
    paths, names, y = _images(options.folder, options.normal)
    found = score_images(detector, paths, verbose=_at_terminal())
    write_scores(found, options.output, names)
    read = np.flatnonzero(found.errors == "")
    chosen = [names[i] for i in read]
    if options.maps is not None:
        write_maps(detector, paths[read], options.maps, chosen, verbose=_at_terminal())
    if options.regions is not None:
        write_regions(detector, paths[read], options.regions, chosen)
    return _finish(options, found, y)


def _report(options):
    check_output_path(options.output)
    detector = COFTDetector.load(options.model, device=options.device)
    paths, names, y = _images(options.folder, options.normal)
    found = write_report(
        detector,
        paths,
        options.output,
        y=y,
        names=names,
        shots=options.shots and _normal_images(options.shots, options.normal),
        title=options.title or options.folder.resolve().name,
        worst=options.worst,
        verbose=_at_terminal(),
    )
    return _finish(options, found, y)


def _check_maps(maps, folder):
    """Raise where maps would be taken for images the next time."""
    if maps.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--maps {str(maps)!r} lies in the folder of images {str(folder)!r}, where maps would "
            "count as images the next time. Name another one."
        )
    if maps.exists() and not maps.is_dir():
        raise NotADirectoryError(f"--maps {str(maps)!r} is a file; name a folder.")


def _normal_images(folder, normal):
    """Paths of the normal images of a folder, of its training part where there is one."""
    data = load_folder(folder, normal=normal or "auto")
    keep = np.full(len(data.paths), True) if data.labels is None else data.labels == 1
    if "train" in data.split:
        keep &= data.split == "train"
    if not keep.any():
        raise ValueError(f"{str(folder)!r} holds no normal image to learn from.")
    return data.paths[keep]


def _images(folder, normal):
    """Paths, names in the folder, and labels where they are known, of what to score."""
    try:
        data = load_folder(folder, normal=normal or "auto")
    except ValueError:
        if normal is not None:
            raise
        data = load_folder(folder, normal=None)  # which images are normal nobody says
    keep = data.split == "test" if "test" in data.split else np.full(len(data.paths), True)
    names = [Path(path).relative_to(folder).as_posix() for path in data.paths[keep]]
    return data.paths[keep], names, None if data.labels is None else data.labels[keep]


def _finish(options, found, y):
    """Print what was found; return the exit code."""
    read = found.errors == ""
    anomalous = int((found.labels[read] == -1).sum())
    said = f"{options.output}: {read.sum()} images, {anomalous} anomalous"
    if y is not None and len(set(y[read])) == 2:
        said += f", area under the ROC curve {roc_auc_score(y[read], found.scores[read]):.3f}"
    print(said)
    if read.all():
        return DONE
    failed = np.flatnonzero(~read)
    print(
        f"skcoft: warning: {len(failed)} of {len(read)} images could not be read. "
        f"{found.errors[failed[0]]}",
        file=sys.stderr,
    )
    return SOME_NOT_READ


def _at_terminal():
    return sys.stderr.isatty()


@contextmanager
def _plain_warnings():
    """Show warnings as messages, without a place in the code."""

    def show(message, *_args, **_options):
        print(f"skcoft: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
