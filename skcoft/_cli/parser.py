"""The arguments of the commands. Help and typing errors are quick: nothing heavy is imported."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from .._network.default_backbone import DEFAULT_BACKBONE
from .._utils.text import printable
from .._version import __version__

DEFAULT_WEIGHTS = "pretrained"
EXIT_CODES = (
    "The exit code is 0 on success, 1 if some images could not be read, and 2 after an error. A "
    "message gives the reason and names the files that were written before."
)
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
    "overwrite": (
        "Replace output files that exist. By default they are an error. Inputs of the command are "
        "never replaced."
    ),
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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to show, because arguments may be the names of files."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and a message, and exit."""
        super().error(printable(message))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the name of the command becomes ``command``."""
    parser = Parser("skcoft", description=HELP["skcoft"], epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=__version__, help=HELP["version"])
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    fit = _add_command(commands.add_parser, "fit", "normal_folder")
    fit.add_argument("--backbone", default=DEFAULT_BACKBONE, help=HELP["backbone"])
    fit.add_argument("--weights", default=DEFAULT_WEIGHTS, metavar="FILE", help=HELP["weights"])
    fit.add_argument("--max-pixels", type=int, metavar="N", help=HELP["max_pixels"])
    fit.add_argument("--mask", type=Path, metavar="FILE", help=HELP["mask"])
    fit.add_argument("--iterations", type=int, default=20, metavar="N", help=HELP["iterations"])
    fit.add_argument("--seed", type=int, default=0, metavar="N", help=HELP["seed"])
    fit.add_argument("--calibrate", type=Path, metavar="FOLDER", help=HELP["calibrate"])
    fit.add_argument("--max-fpr", type=float, metavar="RATE", help=HELP["max_fpr"])
    score = _add_command(commands.add_parser, "score", "model", "folder")
    score.add_argument("--maps", type=Path, metavar="FOLDER", help=HELP["maps"])
    score.add_argument("--regions", type=Path, metavar="FILE", help=HELP["regions"])
    report = _add_command(commands.add_parser, "report", "model", "folder")
    report.add_argument("--shots", type=Path, metavar="FOLDER", help=HELP["shots"])
    report.add_argument("--title", help=HELP["title"])
    report.add_argument("--worst", type=int, default=12, metavar="N", help=HELP["worst"])
    return parser


def _add_command(
    add_parser: Callable[..., argparse.ArgumentParser],
    name: str,
    *positional: str,
) -> argparse.ArgumentParser:
    """Add a command with the arguments that all commands share."""
    command = add_parser(name, help=HELP[name], description=HELP[name], epilog=EXIT_CODES)
    for argument in positional:
        command.add_argument(argument, type=Path, help=HELP[argument])
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=HELP[f"output of {name}"]
    )
    command.add_argument("--overwrite", action="store_true", help=HELP["overwrite"])
    command.add_argument("--normal", default=None, metavar="NAME", help=HELP["normal"])
    command.add_argument("--device", help=HELP["device"])
    command.set_defaults(command=name)
    return command
