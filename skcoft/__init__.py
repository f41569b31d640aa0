"""Few-shot image anomaly detection by contrastive fine-tuning, for scikit-learn."""

from . import augmentation, datasets, density, losses, model_selection, plotting, report
from ._detector import COFTDetector
from ._embedder import COFTEmbedder
from ._persistence.legacy import install_aliases
from ._version import __version__ as __version__

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

install_aliases()
