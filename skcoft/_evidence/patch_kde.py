"""Kernel density of local embeddings: many rows, in single precision, where the network is."""

import numpy as np
import torch
from sklearn import get_config

from ..density import log_constant, scott_bandwidth

ROWS = 256  # at once: their exponents stay in a core's cache


class PatchKDE:
    """The density of :class:`skcoft.density.KernelDensity`, of tensors instead of arrays.

    Table and kernels are centered and divided by the bandwidth before they are rounded, so log
    densities are within 1e-3 nats of double precision where these are above -1,000 or so. What
    a row gets depends on how many rows are in the call, but on no other row's values.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        Where the kernels are.
    bandwidth : float or None
        Standard deviation of the kernels; None means Scott's rule.
    """

    def __init__(self, points, bandwidth=None):
        center = points.mean(axis=0, dtype=np.float64)
        centered = points - center
        self.bandwidth = scott_bandwidth(centered, len(points)) if bandwidth is None else bandwidth
        scaled = centered / self.bandwidth
        self.center = center.astype(np.float32)
        self.scaled = scaled.astype(np.float32)
        self.exponents = (-0.5 * np.square(scaled).sum(axis=1)).astype(np.float32)
        n, d = points.shape
        self.constant = float(log_constant(n, d, self.bandwidth))

    def log_maps(self, patches):
        """Log density in nats of a tensor (n, h, w, d), an array (n, h, w) of float64."""
        arrays = self.center, self.scaled, self.exponents
        # copies: joblib gives its workers arrays that are not writable, at which torch warns
        kernels = [torch.tensor(array, device=patches.device) for array in arrays]
        return np.stack([self._log_density(image, *kernels) for image in patches])

    @torch.inference_mode()
    def _log_density(self, image, center, scaled, exponents):
        rows = (image.flatten(0, 1) - center) / self.bandwidth
        found = [
            log_sum_exp(torch.addmm(exponents, z, scaled.T)) for z in rows.split(self._at_once)
        ]
        found = torch.cat(found).cpu().double()  # there, as not every accelerator has doubles
        found = found - 0.5 * rows.square().sum(1).cpu() - self.constant
        return found.view(image.shape[:2]).numpy()

    @property
    def _at_once(self):
        budget = get_config()["working_memory"] * 2**20
        return int(np.clip(budget // (4 * len(self.scaled)), 1, ROWS))


def log_sum_exp(exponents):
    """Row-wise log-sum-exp, in place: ``exponents`` is overwritten."""
    top = exponents.amax(1, keepdim=True)
    return exponents.sub_(top).exp_().sum(1).log_().add_(top[:, 0])
