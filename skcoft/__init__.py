"""Few-shot image anomaly detection by contrastive fine-tuning, for scikit-learn."""

from . import augmentation, density, losses
from ._detector import COFTDetector
from ._embedder import COFTEmbedder

__version__ = "0.1.0.dev0"

__all__ = ["COFTDetector", "COFTEmbedder", "augmentation", "density", "losses"]
