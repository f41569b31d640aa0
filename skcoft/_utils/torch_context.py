"""Fits that are whole or not there, whatever the caller's torch is set to."""

from contextlib import ExitStack, contextmanager
from threading import RLock

import torch

UPDATE_LOCK = RLock()  # learning more: of two threads at once, neither may lose what it added
COLUMNS = ("n_features_in_", "feature_names_in_")


@contextmanager
def restored_on_failure(estimator):
    """Restore an estimator's attributes where the block fails: an earlier fit stays usable."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def reset_columns(estimator):
    """Forget the columns of an earlier fit."""
    for name in COLUMNS:
        vars(estimator).pop(name, None)


def fitted_columns(estimator):
    """Return what an estimator knows of the columns of X: a dict of fitted attributes."""
    return {name: vars(estimator)[name] for name in COLUMNS if name in vars(estimator)}


@contextmanager
def torch_defaults():
    """Set torch to its usual state inside the block: gradients, single precision, no autocast.

    So results do not depend on a caller's ``no_grad``, ``inference_mode``, ``autocast``, default
    type or default device.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield
