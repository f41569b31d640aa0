"""Compare detectors of other packages with ours on the same weights, images and shots.

All detectors receive images that were resized to the same size. Every detector runs in a separate
process for each task and seed. Its memory is the peak of this process minus what the process held
after torch, the images and the packages were loaded. The script prints the image AUROC of each
task. Over all tasks it prints pixel AUROC, seconds to fit, milliseconds to score an image and the
maximum memory.

    pip install -e . anomalib pyod
    python benchmarks/neighbours.py --data DATA --weights WEIGHTS --sets casting,ksdd,elpv_mono256
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from bench_memory import peak_memory
from fewshot import (
    Detector,
    Row,
    Task,
    make_parser,
    mean,
    measure,
    pixel_text,
    print_header,
    print_line,
    read_tasks,
)
from peers import FrozenNetwork
from safetensors.torch import load_file
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM
from torch import nn
from torch.nn.functional import interpolate

from skcoft import COFTDetector, COFTEmbedder

BATCH = 8


class AnomalibDetector(FrozenNetwork):
    """A model of anomalib with its authors' settings, except for the weights.

    ``finish_fit`` takes the model after it has embedded the training images.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        finish_fit: Callable[[Any], Any],
        backbone: str,
        weights: Path,
    ) -> None:
        super().__init__(backbone, weights, features_only=True)  # for its mean and std
        self.finish_fit = finish_fit
        self.model = self.network = model(backbone=backbone, pre_trained=False)
        state = load_file(weights / f"{backbone}.safetensors")
        self.model.feature_extractor.feature_extractor.load_state_dict(state, strict=False)

    def fit(self, images: np.ndarray) -> Self:
        self.model.train()
        self.model.feature_extractor.eval()
        self.run(images)
        self.finish_fit(self.model)
        self.model.eval()
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        return -np.concatenate([batch.pred_score.ravel() for batch in self.run(images)])

    def anomaly_map(self, images: np.ndarray) -> np.ndarray:
        return np.concatenate([batch.anomaly_map[:, 0] for batch in self.run(images)])


class EmbeddingDetector:
    """A scikit-learn or PyOD detector of tabular data, on frozen embeddings of whole images."""

    def __init__(self, detector: Any, embedder: COFTEmbedder) -> None:
        self.detector, self.embedder = detector, embedder

    def fit(self, images: np.ndarray) -> Self:
        self.detector.fit(self.embedder.fit_transform(images))
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        embeddings = self.embedder.transform(images)
        if hasattr(self.detector, "score_samples"):
            return self.detector.score_samples(embeddings)
        return -self.detector.decision_function(embeddings)  # PyOD: higher is more anomalous


def make_patchcore(backbone: str, weights: Path) -> AnomalibDetector:
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    def model(**options: Any) -> nn.Module:
        return PatchcoreModel(layers=("layer2", "layer3"), **options)

    return AnomalibDetector(
        model, lambda fitted: fitted.subsample_embedding(0.1), backbone, weights
    )


def make_padim(backbone: str, weights: Path) -> AnomalibDetector:
    from anomalib.models.image.padim.torch_model import PadimModel

    return AnomalibDetector(PadimModel, lambda fitted: fitted.fit(), backbone, weights)


def pyod_builder(name: str) -> Callable[[dict[str, Any], int], EmbeddingDetector]:
    """Return a function that builds a detector of PyOD with its defaults."""

    def build(network: dict[str, Any], seed: int) -> EmbeddingDetector:
        import pyod.models.kde
        import pyod.models.knn

        detector = getattr(getattr(pyod.models, name.lower()), name)()
        return EmbeddingDetector(detector, COFTEmbedder(**network, max_iter=0))

    return build


DETECTORS: dict[str, Callable[[dict[str, Any], int], Detector]] = {
    "skcoft": lambda network, seed: COFTDetector(**network, random_state=seed),
    "skcoft, frozen": lambda network, seed: COFTDetector(**network, max_iter=0, random_state=seed),
    "anomalib PatchCore": lambda network, seed: make_patchcore(
        network["backbone"], network["weights"].parent
    ),
    "anomalib PaDiM": lambda network, seed: make_padim(
        network["backbone"], network["weights"].parent
    ),
    "PyOD KNN": pyod_builder("KNN"),
    "PyOD KDE": pyod_builder("KDE"),
    "LocalOutlierFactor": lambda network, seed: EmbeddingDetector(
        LocalOutlierFactor(novelty=True), COFTEmbedder(**network, max_iter=0)
    ),
    "OneClassSVM": lambda network, seed: EmbeddingDetector(
        OneClassSVM(), COFTEmbedder(**network, max_iter=0)
    ),
}


def resize_task(task: Task, size: int) -> Task:
    """Return a task whose images and masks are squares of one size."""

    def resize(images: np.ndarray) -> np.ndarray:
        planes = torch.from_numpy(images.reshape(*images.shape[:3], -1)).movedim(3, 1).float()
        planes = interpolate(planes, (size, size), mode="bilinear", antialias=True)
        return planes.round().byte().movedim(1, 3).numpy().reshape(len(images), size, size, -1)

    anomalies = {kind: resize(images) for kind, images in task.anomalies.items()}
    masks = {
        kind: (resize((mask > 0).astype(np.uint8) * 255) > 127)[..., 0]
        for kind, mask in task.masks.items()
    }
    return Task(task.name, resize(task.pool), resize(task.normal), anomalies, masks)


def run(
    name: str, network: dict[str, Any], task: Task, shots: int, seed: int, threads: int
) -> Row:
    """Measure one detector in this process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    detector = DETECTORS[name](network, seed)
    before = peak_memory()
    row = measure(lambda _: detector, task, shots, seed, pixels=hasattr(detector, "anomaly_map"))
    return {**row, "memory": peak_memory() - before}


def describe(rows: list[Row]) -> str:
    """Return the figures that are averaged over all tasks and seeds, as text."""
    return (
        f"{pixel_text(rows)}fit {mean(rows, 'fit_s'):.1f} s, {mean(rows, 'score_ms'):.0f} ms, "
        f"{max(row['memory'] for row in rows):.0f} MiB"
    )


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=256, help="side of the square images, pixels")
    parser.add_argument("--detectors", default=";".join(DETECTORS), help="separated by semicolons")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    network = {
        "backbone": args.backbone,
        "weights": args.weights / f"{args.backbone}.safetensors",
        "image_size": args.size,
    }
    tasks = [resize_task(task, args.size) for task in read_tasks(args)]
    print_header(args, tasks, f"{args.backbone}, {args.size} pixels, ")
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for name in args.detectors.split(";"):
            task_rows = []
            for task in tasks:
                options = network, task, args.shots
                seeds = range(args.seeds)
                jobs = [pool.submit(run, name, *options, s, args.threads) for s in seeds]
                task_rows.append([job.result() for job in jobs])
            values = [mean(rows, "auroc") for rows in task_rows]
            print_line(name, values, describe([row for rows in task_rows for row in rows]))


if __name__ == "__main__":
    main()
