"""Few-shot image anomaly detection by contrastive fine-tuning, for scikit-learn."""

__version__ = "0.2.0.dev0"

from . import augmentation, datasets, density, losses, model_selection, plotting, report
from ._detector import COFTDetector
from ._embedder import COFTEmbedder

__all__ = [
    "COFTDetector",
    "COFTEmbedder",
    "augmentation",
    "datasets",
    "density",
    "losses",
    "model_selection",
    "plotting",
    "report",
]
