"""Few-shot image anomaly detection by contrastive fine-tuning, for scikit-learn."""

__version__ = "0.1.0.dev0"

from . import augmentation, density, losses, model_selection, plotting
from ._detector import COFTDetector
from ._embedder import COFTEmbedder

__all__ = [
    "COFTDetector",
    "COFTEmbedder",
    "augmentation",
    "density",
    "losses",
    "model_selection",
    "plotting",
]
