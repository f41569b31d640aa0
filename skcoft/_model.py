"""What fit learned, as one object: from validated input to scores, maps and the threshold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ._evidence.backbone_score import BackboneScore
from ._evidence.joint_score import JointScore
from ._evidence.maps import resize_map
from ._evidence.threshold import (
    Threshold,
    automatic_offset,
    check_finite_scores,
    map_threshold,
    suspect_shots,
)
from ._input.defaults import InputDefaults
from ._input.mask import hide_outside
from ._input.recognize import Source
from ._input.shots import ShotRegistry
from ._input.unreadable import UnreadableImage, score_readable
from ._network.encoder import Encoder, concat_embeddings, embeddings_of, match_inputs
from ._network.support import VIEW
from ._training.data import TrainingData
from ._utils.cache import cached
from ._utils.settings import DetectorSettings
from ._utils.torch_context import torch_defaults


@dataclass(frozen=True)
class FittedModel:
    """Encoders, the components fitted on their embeddings, and the threshold.

    A model is never changed: ``partial_fit`` and ``set_threshold`` make another one. So other
    threads see the state before or the state after, and a failure leaves the state before.

    Attributes
    ----------
    joint : JointScore
        Sum of the components' scores. It holds the encoders.
    registry : ShotRegistry
        The training images and their shots, by which later images are recognised.
    calibration_scores : ndarray of shape (n_calibration,)
        Scores that p-values and the automatic threshold are computed from.
    threshold : Threshold
        Score below which an image is anomalous.
    map_threshold : float or None
        Value of anomaly maps above which a region begins; None without maps.
    """

    joint: JointScore
    registry: ShotRegistry
    calibration_scores: np.ndarray
    threshold: Threshold
    map_threshold: float | None

    @classmethod
    def fit(
        cls, settings: DetectorSettings, encoders: list[Encoder], data: TrainingData
    ) -> "FittedModel":
        """Fit the components on embeddings of the training images and set the threshold."""
        arguments = data.images, data.shot_ids, data.anomalies, settings.memory
        scores = [
            BackboneScore.embed_and_fit(settings, encoder, scale, *arguments)
            for encoder, scale in scored_scales(settings, encoders)
        ]
        return cls.calibrate(settings, scores, data.registry)

    @classmethod
    def calibrate(
        cls,
        settings: DetectorSettings,
        backbone_scores: list[BackboneScore],
        registry: ShotRegistry,
    ) -> "FittedModel":
        """Join scores of backbones and set the threshold by the shots, each held out."""
        share = 0.0 if settings.contamination == "auto" else float(settings.contamination)
        joint = JointScore.with_clusters(backbone_scores, share)
        support = backbone_scores[0].support
        held_out = joint.held_out_scores()
        is_view = support.roles[support.is_calibration] == VIEW
        calibration_scores = joint.per_shot(held_out)
        check_finite_scores(calibration_scores, f"held-out shots (density={settings.density!r})")
        if settings.contamination == "auto":
            # all clusters are on the scale of the first one, so its shots set the threshold
            first_cluster = joint.by_cluster()[0]
            value = automatic_offset(calibration_scores[first_cluster], held_out[is_view])
        else:
            value = float(np.percentile(joint.held_out_image_scores(), 100 * share))
        limit = map_threshold(joint, is_view)
        return cls(joint, registry, calibration_scores, Threshold(value), limit)

    def extend(
        self, settings: DetectorSettings, images: Any, groups: Any
    ) -> tuple["FittedModel", np.ndarray]:
        """Return a model with more training images, and a mask of the new images that it keeps.

        The network is not fine-tuned. At most ``defaults.max_shots`` shots are kept, or as many
        as there are if ``fit`` was given more.
        """
        bit_depths = {encoder.modality: encoder.bit_depth for encoder in self.encoders}
        registry = self.registry.extend(
            images, groups, bit_depths, self.encoders[0].mirrors_are_normal
        )
        n_earlier = len(self.registry.ids)
        max_shots = max(self.defaults.max_shots, len(np.unique(self.registry.ids)))
        is_kept = registry.choose_kept(n_earlier, max_shots, self.encoders[0].seed)
        is_added = is_kept[n_earlier:]
        added, added_ids = images.take(is_added), registry.ids[n_earlier:][is_added]
        registry, n_seen = registry.take(is_kept), self.registry.n_images_seen
        scores = [
            score.extend(settings, added, added_ids, registry.ids, n_seen)
            for score in self.joint.backbone_scores
        ]
        return self.calibrate(settings, scores, registry), is_added

    def with_threshold(self, value: float, source: str) -> "FittedModel":
        """Return the model with a threshold that is not from the training images."""
        return replace(self, threshold=Threshold(value, source))

    @property
    def full_size_scores(self) -> list[BackboneScore]:
        """Scores of the backbones at full resolution."""
        return [score for score in self.joint.backbone_scores if score.scale == 1]

    @property
    def encoders(self) -> list[Encoder]:
        """One encoder for each modality and backbone."""
        return [score.encoder for score in self.full_size_scores]

    @property
    def defaults(self) -> InputDefaults:
        """Defaults of the type of input that the model was fitted on."""
        return self.encoders[0].network.defaults

    @property
    def embeddings(self) -> np.ndarray:
        """Embeddings of the training images, of shape (n_images, d)."""
        return self.joint.embeddings

    @property
    def suspect_images(self) -> np.ndarray:
        """Indices of the training images whose shot scores far below the others, held out."""
        names = np.unique(self.registry.ids)[suspect_shots(self.joint)]
        return np.flatnonzero(np.isin(self.registry.ids, names))

    def match(self, inputs: Any) -> Any:
        """Return input with the model's mask; raise ValueError if its format differs."""
        return match_inputs(self.encoders, inputs)

    def iter_chunks(self, inputs: Any) -> Iterator[Any]:
        """Yield input in chunks whose images are decoded once for all backbones and scales."""
        return inputs.iter_chunks([score.scaled for score in self.joint.backbone_scores])

    def embed(self, inputs: Any, memory: Any = None) -> np.ndarray:
        """Return L2-normalised embeddings of shape (n, d)."""
        summarize = {"embeddings": embeddings_of}
        with torch_defaults():
            return concat_embeddings(
                [
                    cached(memory, Encoder.summarize, encoder, inputs, summarize)["embeddings"]
                    for encoder in self.encoders
                ]
            )

    def summarize(self, inputs: Any, memory: Any = None) -> dict[Any, np.ndarray]:
        """Run the networks and return what the components need of each image."""
        methods = {key: part.summarize for key, part in self.joint.components.items()}
        with torch_defaults():
            return self.joint.summarize(inputs, methods, memory)

    def score(self, inputs: Any, memory: Any = None) -> np.ndarray:
        """Return scores of shape (n,), held-out scores of training images; higher is normal."""
        return self._score_summary(self.summarize(inputs, memory))[0]

    def score_as_new(self, inputs: Any) -> np.ndarray:
        """Return scores of shape (n,) that treat training images as new images."""
        return self.joint.score(self.summarize(inputs))

    def _score_summary(self, summary: dict[Any, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return scores, and the mask of training images, whose scores are held-out scores."""
        scores, indices = self.joint.score(summary), self.joint.recognize(summary)
        is_training = indices >= 0
        scores[is_training] = self.joint.held_out_image_scores()[indices[is_training]]
        return scores, is_training

    def score_readable(
        self, X: Any, read: Callable[..., Any], memory: Any = None, first: int = 0
    ) -> tuple[np.ndarray, list[UnreadableImage]]:
        """Return scores, NaN for unreadable images, and these images.

        ``read`` maps a recognised chunk and the position of its first image to validated input.
        """

        def score(chunk: Source, position: int) -> np.ndarray:
            return self.score(read(chunk, position), memory)

        def check_readable(image: Source, position: int) -> None:
            inputs = read(image, position)
            one_each = {encoder.modality: encoder for encoder in self.encoders}
            for encoder in one_each.values():
                encoder.load(inputs)(torch.zeros(1, dtype=torch.long))

        return score_readable(score, check_readable, X, first)

    def calibration_of(
        self, inputs: Any, memory: Any = None
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Return scores, largest values of maps (if any), and the number of training images."""
        summary = self.summarize(inputs, memory)
        maxima = self.joint.map_maxima(summary) if self.has_maps else np.empty(0)
        scores, is_training = self._score_summary(summary)
        return scores, maxima, int(is_training.sum())

    def maps(self, inputs: Any) -> Iterator[np.ndarray]:
        """Yield the anomaly map of each image at the size of the image."""
        with torch_defaults():
            maps = self.joint.maps(self.joint.summarize(inputs, self.joint.map_methods()))
        return self._at_full_size(maps, inputs)

    def maps_and_embeddings(self, inputs: Any) -> tuple[Iterator[np.ndarray], np.ndarray]:
        """Return what ``maps`` and ``embed`` do, from one pass of the networks."""
        keys = self.joint.embedding_keys
        methods = {**self.joint.map_methods(), **dict.fromkeys(keys, embeddings_of)}
        with torch_defaults():
            summary = self.joint.summarize(inputs, methods)
            maps = self.joint.maps(summary)
        embeddings = concat_embeddings([summary[key] for key in keys])
        return self._at_full_size(maps, inputs), embeddings

    def _at_full_size(self, maps: list[np.ndarray], inputs: Any) -> Iterator[np.ndarray]:
        images = self.mapped_images(inputs)
        for anomaly_map, size in zip(maps, images.sizes, strict=True):
            yield hide_outside(resize_map(anomaly_map, size), images.mask)

    def mapped_images(self, inputs: Any) -> Any:
        """Return the images that maps have the size of: those of the first modality."""
        return self.encoders[0].select_modality(inputs)

    @property
    def has_maps(self) -> bool:
        """Whether a component draws maps."""
        return bool(self.joint.map_components())


def scored_scales(
    settings: DetectorSettings, encoders: list[Encoder]
) -> list[tuple[Encoder, float]]:
    """Return each encoder with each scale, relative to full resolution, that it scores at."""
    return [
        (encoder, scale)
        for encoder in encoders
        for scale in (encoder.scales if settings.multiscale else (1,))
    ]
