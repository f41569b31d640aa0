"""Few-shot image anomaly detection by contrastive fine-tuning, for scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._persistence.old_modules import install_finder
from ._version import __version__ as __version__

if TYPE_CHECKING:  # imported on first use, see __getattr__
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
_MODULES_OF_CLASSES = {"COFTDetector": "_detector", "COFTEmbedder": "_embedder"}

if not TYPE_CHECKING:  # type checkers would take every name for one of this module

    def __getattr__(name: str) -> Any:
        """Import a public name on first use, because torch and scikit-learn take seconds."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f".{_MODULES_OF_CLASSES.get(name, name)}", __name__)
        value = getattr(module, name) if name in _MODULES_OF_CLASSES else module
        return globals().setdefault(name, value)


def __dir__() -> list[str]:
    """Return all public names, whether they are imported yet or not."""
    return sorted([*__all__, "__version__"])


install_finder()
