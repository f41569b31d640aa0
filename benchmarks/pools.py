r"""Outliers in an unlabelled pool: how well are the few anomalies among many images detected?

A pool has ``--pool`` images. A share of them are anomalies of all kinds, the others are normal.
All detectors are fitted on the pool, without labels, and score its images. The table gives the
image AUROC in percent for pools with 5, 10 and 20 % of anomalies. The network is frozen, so each
image is embedded once for all pools and lines:

* "own kernels": the scores of a new image, by densities that were also fitted on this image;
* "held out": ``held_out_scores_``, by densities of the other images, as ``fit_predict`` uses;
* "gate": the lowest held-out scores, twice the share of anomalies, are left out, and the densities
  are fitted on the others alone;
* "8 clean shots": densities of eight normal images that are not in the pool;
* PyOD's detectors on the embeddings of the pool, and a patch memory without its noisy patches
  as in SoftPatch (arXiv 2403.14233), in which each image is compared with the other images;
* MuSc (arXiv 2401.16753): patches are compared with those of each other image.

With ``--max-iter``, only the first two lines are measured, by a detector that was fine-tuned on
the pool::

    python benchmarks/pools.py --data DATA --first-seed 2
"""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fewshot import LABEL, Task, auroc, make_parser, read_tasks
from sklearn.base import clone

from skcoft import COFTDetector
from skcoft._evidence.backbone_score import BackboneScore, build_components, with_patches
from skcoft._evidence.joint_score import JointScore
from skcoft._network.encoder import MAX_CHANGED_SHOTS, Features
from skcoft._network.support import ROW_ARRAYS, Support

SHARES = 0.05, 0.1, 0.2
N_CLEAN = 8
MAX_NORMAL, MAX_ANOMALIES = 72, 32  # images of a task that pools are drawn from
PYOD = "IForest", "LOF", "KNN"
MEMORY_PATCHES = 8_000  # a random subset of the patches of the pool
NOISY_SHARE = 0.15  # of the patches, which SoftPatch leaves out
NEIGHBOUR = 6  # whose distance says how noisy a patch is
MUSC_SHARE = 0.3  # of the other images, whose distances count


class EmbeddedTask:
    """Images of a task, embedded once by a frozen network for all pools."""

    def __init__(self, task: Task, parameters: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        anomalies = np.concatenate(list(task.anomalies.values()))
        parts = [
            images[np.sort(rng.permutation(len(images))[:count])]
            for images, count in (
                (np.concatenate([task.pool, task.normal]), MAX_NORMAL),
                (anomalies, MAX_ANOMALIES),
            )
        ]
        self.is_normal = np.repeat([True, False], [len(part) for part in parts])
        self.images = np.concatenate(parts)
        self.settings = COFTDetector(random_state=0, **parameters)
        frozen = clone(self.settings).set_params(max_iter=0)
        self.fitted = frozen.fit(self.images[:N_CLEAN])
        self.scores = self.fitted._model.joint.backbone_scores
        inputs = self.fitted._read(self.images)
        self.supports = [
            score.scaled.embed_shots(inputs, **score.views, with_patches=True)
            for score in self.scores
        ]

    def fit(self, rows: np.ndarray, share: float = 0) -> JointScore:
        """Fit all components on some of the images, a share of which are anomalies."""
        backbone_scores = []
        for score, support in zip(self.scores, self.supports, strict=True):
            chosen = self.with_moves(score, select(support, rows), rows)
            components = build_components(self.settings, score.encoder)
            for component in with_patches(components).values():
                component.add_patches(chosen)
            arguments = score.encoder, score.scale, chosen, components, score.views
            backbone_scores.append(BackboneScore.fit(*arguments))
        return JointScore.with_clusters(backbone_scores, share)

    def with_moves(self, score: BackboneScore, support: Support, rows: np.ndarray) -> Support:
        """Return the support with the harmless changes of the images, embedded as in a fit."""
        inputs = self.fitted._read(self.images[rows[:MAX_CHANGED_SHOTS]])
        changed = score.scaled.embed_shots(inputs, 0, mirror=False, with_patches=True)
        names = "moves", "move_ids", "patch_moves"
        moves: dict[str, Any] = {name: getattr(changed, name) for name in names}
        return replace(support, **moves)

    def score(self, joint: JointScore, rows: np.ndarray) -> np.ndarray:
        """Score some of the images as new ones."""
        summaries = {}
        for (i, name), component in joint.components.items():
            patches = None
            if component.needs_patches:
                patches = torch.from_numpy(np.stack(self.patches(rows, i)))
            features = Features(self.embeddings(rows, i), patches, None)
            summaries[i, name] = component.summarize(features)
        return joint.score(summaries)

    def embeddings(self, rows: np.ndarray, scale: int = 0) -> np.ndarray:
        """Return the embeddings of some of the images."""
        return self.supports[scale].embeddings[rows]

    def patches(self, rows: np.ndarray, scale: int = 0) -> list[np.ndarray]:
        """Return the patch embeddings (h, w, e) of some of the images."""
        return [self.supports[scale].patches[row] for row in rows]  # type: ignore[index]


def select(support: Support, rows: np.ndarray) -> Support:
    """Return the support of some of the images, each of which is a shot."""
    chosen = np.concatenate(
        [rows + start for start in range(0, len(support.roles), support.n_images)]
    )
    arrays: dict[str, Any] = {name: getattr(support, name)[chosen] for name in ROW_ARRAYS}
    patches = [support.patches[row] for row in chosen]  # type: ignore[index]
    arrays["shot_ids"] = np.tile(np.arange(len(rows)), len(chosen) // len(rows))
    return replace(support, **arrays, patches=patches)


def draw_pool(
    is_normal: np.ndarray, n_images: int, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a pool, normal ones first, and of the clean shots."""
    rng, n_anomalies = np.random.default_rng(seed), round(share * n_images)
    normal, anomalies = (rng.permutation(np.flatnonzero(is_normal == value)) for value in (1, 0))
    n_normal = n_images - n_anomalies
    return (
        np.r_[normal[:n_normal], anomalies[:n_anomalies]],
        normal[n_normal : n_normal + N_CLEAN],
    )


def gated_scores(
    embedded: EmbeddedTask, pool: np.ndarray, held_out: np.ndarray, share: float
) -> np.ndarray:
    """Return scores by densities of the images with the highest held-out scores."""
    is_left = np.ones(len(pool), dtype=bool)
    is_left[np.argsort(held_out)[: round(2 * share * len(pool))]] = False
    joint = embedded.fit(pool[is_left])
    scores = embedded.score(joint, pool)
    scores[is_left] = joint.held_out_image_scores()
    return scores


def pyod_scores(name: str, embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Return the scores of a detector of PyOD with its default parameters."""
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from pyod.models.lof import LOF

    detectors = {"IForest": IForest(random_state=seed), "LOF": LOF(), "KNN": KNN()}
    return -detectors[name].fit(embeddings).decision_scores_


def softpatch_scores(patches: list[np.ndarray], seed: int) -> np.ndarray:
    """Score images by their worst patch: its distance to the nearest good patch of other images.

    The patches with the largest distance to their neighbours are no good ones.
    """
    flat = [torch.from_numpy(image.reshape(-1, image.shape[-1])) for image in patches]
    owners = np.repeat(np.arange(len(flat)), [len(image) for image in flat])
    subset = np.sort(np.random.default_rng(seed).permutation(len(owners))[:MEMORY_PATCHES])
    memory, owner = torch.cat(flat)[torch.from_numpy(subset)], owners[subset]
    noise = torch.cdist(memory, memory).kthvalue(NEIGHBOUR + 1, dim=1).values.numpy()
    is_good = noise <= np.quantile(noise, 1 - NOISY_SHARE)
    return -np.array(
        [
            torch.cdist(image, memory[torch.from_numpy(is_good & (owner != i))]).amin(1).max()
            for i, image in enumerate(flat)
        ]
    )


def musc_scores(patches: list[np.ndarray]) -> np.ndarray:
    """Score images by their worst patch: mean distance to the most similar other images."""
    flat = [torch.from_numpy(image.reshape(-1, image.shape[-1])) for image in patches]
    count = max(1, int(MUSC_SHARE * (len(flat) - 1)))
    scores = []
    for i, image in enumerate(flat):
        others = [torch.cdist(image, other).amin(1) for j, other in enumerate(flat) if j != i]
        lowest = torch.stack(others, 1).topk(count, dim=1, largest=False).values
        scores.append(-float(lowest.mean(1).max()))
    return np.array(scores)


def frozen_lines(
    embedded: EmbeddedTask, pool: np.ndarray, clean: np.ndarray, share: float, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the scores of the pool of every line of the table."""
    joint = embedded.fit(pool, share)
    held_out = joint.held_out_image_scores()
    yield "own kernels", embedded.score(joint, pool)
    yield "held out", held_out
    yield "gate", gated_scores(embedded, pool, held_out, share)
    yield "8 clean shots", embedded.score(embedded.fit(clean), pool)
    for name in PYOD:
        yield f"PyOD {name}", pyod_scores(name, embedded.embeddings(pool), seed)
    yield "SoftPatch", softpatch_scores(embedded.patches(pool), seed)
    yield "MuSc", musc_scores(embedded.patches(pool))


def fine_tuned_lines(
    embedded: EmbeddedTask, pool: np.ndarray, share: float, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield these lines for a detector that is fine-tuned on the pool."""
    detector = COFTDetector(
        **embedded.settings.get_params() | {"contamination": share, "random_state": seed}
    )
    images = embedded.images[pool]
    detector.fit(images)
    yield "own kernels", detector._model.score_as_new(detector._read(images))
    yield "held out", detector.held_out_scores_


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=40, help="number of images of a pool")
    parser.add_argument("--max-iter", type=int, default=0, help="iterations of fine-tuning")
    parser.add_argument("--detector", default="{}", help="parameters, a Python dict")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    parameters = {**ast.literal_eval(args.detector), "max_iter": args.max_iter}
    aurocs: dict[str, dict[float, list[float]]] = {}
    tasks = read_tasks(args)
    for task in tasks:
        embedded = EmbeddedTask(task, parameters)
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for share in SHARES:
                pool, clean = draw_pool(embedded.is_normal, args.pool, share, seed)
                is_normal = embedded.is_normal[pool]
                lines = (
                    fine_tuned_lines(embedded, pool, share, seed)
                    if args.max_iter
                    else frozen_lines(embedded, pool, clean, share, seed)
                )
                for name, scores in lines:
                    value = auroc(scores[is_normal], scores[~is_normal])
                    by_share = aurocs.setdefault(name, {s: [] for s in SHARES})
                    by_share[share].append(value)
                    print(f"{task.name} seed {seed} {share:.0%} {name}: {value:.1f}", flush=True)
    print(f"\n{len(tasks)} tasks, {args.seeds} seeds from {args.first_seed}, pools of {args.pool}")
    print(f"{'':{LABEL}s} " + " ".join(f"{share:6.0%}" for share in SHARES))
    for name, by_share in aurocs.items():
        cells = " ".join(f"{np.mean(values):6.1f}" for values in by_share.values())
        print(f"{name:{LABEL}s} {cells}")


if __name__ == "__main__":
    main()
