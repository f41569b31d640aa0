"""Find the modules of skcoft 0.1.0, which only pickles name, when a pickle asks for one."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class OldModuleFinder(MetaPathFinder, Loader):
    """Last entry of ``sys.meta_path``: Python asks it for modules that nothing else finds."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a module of 0.1.0; None for any other module."""
        if not name.startswith("skcoft._"):
            return None
        from .legacy import MODULES  # imports torch, which a pickle needs anyway

        is_old = name.removeprefix("skcoft.") in MODULES
        return ModuleSpec(name, self) if is_old else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module with the classes that pickles name."""
        from .legacy import install_aliases

        install_aliases()
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing, because the module is complete."""


def install_finder() -> None:
    """Let Python find the modules of 0.1.0."""
    if not any(isinstance(finder, OldModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(OldModuleFinder())
