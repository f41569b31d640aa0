"""Density estimators for embeddings: few rows, many dimensions, log domain, float64."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn import get_config
from sklearn.base import DensityMixin
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.utils import check_array, gen_batches
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ._utils.estimator_state import VersionedEstimator
from ._utils.params import any_of, check_parameters, number, one_of

__all__ = ["GaussianDensity", "KernelDensity"]

LOG_2PI = np.log(2 * np.pi)
MIN_SHRINKAGE = 1e-12  # that a rule may estimate


class KernelDensity(DensityMixin, VersionedEstimator):
    r"""Kernel density estimate with a Gaussian kernel, for few points in many dimensions.

    .. math::

        \log p(z) = \log \sum_j \exp\left(-\frac{\lVert z - s_j \rVert^2}{2 b^2}\right)
        - \log n - d \log b - \tfrac{d}{2} \log 2\pi

    It is computed with matrix products in float64, always in the log domain, and in chunks bounded
    by scikit-learn's ``working_memory``. The score of a row does not depend on the other rows of
    the call, to the last bit.

    Parameters
    ----------
    bandwidth : float, "scale" or "loo", default="scale"
        Standard deviation b of the kernels.

        - ``"scale"``: Scott's rule in the effective dimension,
          :math:`b^2 = (\mathrm{tr}\,\Sigma / d_e)\, k^{-2/(d_e + 4)}`, with
          :math:`d_e = (\mathrm{tr}\,\Sigma)^2 / \lVert\Sigma\rVert_F^2` and k the number of
          groups. It follows the scale of the data and also works for n < d.
        - ``"loo"``: the b that maximises the log-likelihood of each group under the kernels of
          the other groups. Without ``groups``, this is leave-one-out.
    covariance_type : {"spherical", "full"}, default="spherical"
        Shape of the kernels. With ``"full"``, the kernels have the shape of the covariance of the
        rows, shrunk as in :class:`GaussianDensity`. The equation then holds for rows whitened by
        this covariance, and b is in units of it, as in ``scipy.stats.gaussian_kde``. If there are
        fewer rows than features, the distance from their span then has the largest influence.
        For images, :class:`skcoft.COFTDetector` uses ``"full"`` if its ``density="kde"``.

    Attributes
    ----------
    bandwidth_ : float
        Bandwidth of the kernels.
    n_features_in_ : int
        Number of features of X in ``fit``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features of X in ``fit``, if they are all strings.

    See Also
    --------
    GaussianDensity : One Gaussian with a shrunk covariance, as in the COFT-AD paper.
    sklearn.neighbors.KernelDensity : Tree-based kernel density for low dimensions, with other
        kernels.

    References
    ----------
    .. [1] Scott, "Multivariate Density Estimation", Wiley 1992 (section 6.3, the rule for b).

    Examples
    --------
    >>> import numpy as np
    >>> from skcoft.density import KernelDensity
    >>> X = np.random.default_rng(0).normal(size=(8, 100))
    >>> density = KernelDensity().fit(X)
    >>> bool(density.score_samples(X)[0] > density.score_samples(X + 3)[0])
    True
    """

    _constraints = {
        "bandwidth": any_of(number(low=0, open_low=True), one_of("scale", "loo")),
        "covariance_type": one_of("spherical", "full"),
    }

    def __init__(
        self,
        bandwidth: float | Literal["scale", "loo"] = "scale",
        covariance_type: Literal["spherical", "full"] = "spherical",
    ) -> None:
        self.bandwidth = bandwidth
        self.covariance_type = covariance_type

    def fit(
        self,
        X: npt.ArrayLike,
        y: None = None,
        groups: npt.ArrayLike | None = None,
        moves: npt.ArrayLike | None = None,
    ) -> Self:
        """Place a kernel on every row and choose the bandwidth.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Locations of the kernels.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Group of each row. Rows of one group, such as views of one shot, are not independent.
            Every group counts once in ``"scale"``, and its rows are left out together in
            ``"loo"``. If groups differ in size, kernels are weighted so that every group has the
            same weight. By default each row is a group.
        moves : array-like of shape (n_moves, n_features), default=None
            Differences between rows that should score alike, such as the embeddings of an image
            with and without noise. Their mean square is added to the covariance, so that
            they count less in distances. Ignored if ``covariance_type="spherical"``.

        Returns
        -------
        KernelDensity
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is invalid, or X and groups differ in length.
        """
        return self._fit(X, groups, moves)

    def _fit(
        self,
        X: npt.ArrayLike,
        groups: npt.ArrayLike | None,
        moves: npt.ArrayLike | None,
        fitted: "KernelDensity | None" = None,
    ) -> Self:
        """Fit; use kernels of the volume of those of ``fitted``, if it is given."""
        check_parameters(self, self._constraints)
        rows: np.ndarray = validate_data(self, X, dtype=np.float64)
        groups = np.arange(len(rows)) if groups is None else np.asarray(groups)
        check_consistent_length(rows, groups)
        self._shape: GaussianDensity | None = None
        if self.covariance_type == "full":
            self._shape = GaussianDensity()
            if fitted is None or fitted._shape is None:
                self._shape.fit(rows, moves=moves)
            else:
                self._shape.fit_at_scale_of(fitted._shape, rows, moves)
        rows = self._whiten(rows)
        weights = group_weights(groups)
        self._center = np.average(rows, axis=0, weights=weights)
        rows = rows - self._center
        if isinstance(self.bandwidth, str):
            n_groups = len(np.unique(groups))
            spread = rows if weights is None else rows * np.sqrt(weights)[:, None]
            self.bandwidth_ = scott_bandwidth(spread, n_groups)
            if self.bandwidth == "loo" and n_groups > 1:
                self.bandwidth_ = likelihood_bandwidth(rows, groups, weights, self.bandwidth_)
        else:
            self.bandwidth_ = float(self.bandwidth)
        scaled = rows / self.bandwidth_
        self._kernels = np.c_[scaled, -0.5 * np.square(scaled).sum(axis=1)]
        if weights is not None:
            self._kernels[:, -1] += np.log(weights)
        return self

    def fit_at_scale_of(
        self,
        fitted: "KernelDensity",
        X: npt.ArrayLike,
        groups: npt.ArrayLike | None = None,
        moves: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit with the bandwidth of another fitted estimator.

        Parameters
        ----------
        fitted : KernelDensity
            A fitted estimator, usually of a larger set that includes X.
        X : array-like of shape (n_samples, n_features)
            Locations of the kernels.
        groups : array-like of shape (n_samples,), default=None
            Group of each row, as in ``fit``.
        moves : array-like of shape (n_moves, n_features), default=None
            As in ``fit``.

        Returns
        -------
        KernelDensity
            The fitted estimator. Its scores and those of ``fitted`` are on the same scale.
        """
        self.set_params(bandwidth=fitted.bandwidth_)
        return self._fit(X, groups, moves, fitted)

    def score_samples(self, X: npt.ArrayLike) -> np.ndarray:
        """Return the log density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to score.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log density in nats, float64; higher means more normal.

        Raises
        ------
        ValueError
            If X is invalid, or its number of features differs from that in ``fit``.
        """
        check_is_fitted(self, "bandwidth_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        n = len(self._kernels)
        constant = log_constant(n, rows.shape[1], self.bandwidth_, self._shape)
        return in_chunks(self._log_kernel_sum, rows, n) - constant

    def _whiten(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._shape is None else self._shape.whiten(rows)

    def _log_kernel_sum(self, rows: np.ndarray) -> np.ndarray:
        rows = self._whiten(rows)
        z = np.ones((len(rows), rows.shape[1] + 1))
        np.subtract(rows, self._center, out=z[:, :-1])
        z[:, :-1] /= self.bandwidth_
        exponents = z @ self._kernels.T
        return logsumexp_rows(exponents) - 0.5 * np.square(z[:, :-1]).sum(axis=1)

    def score(self, X: npt.ArrayLike, y: None = None) -> float:
        """Return the total log density of the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to score.
        y : None
            Ignored.

        Returns
        -------
        float
            Sum of the log densities.
        """
        return float(np.sum(self.score_samples(X)))


class GaussianDensity(DensityMixin, VersionedEstimator):
    r"""One Gaussian with a shrunk covariance: the Mahalanobis score of the COFT-AD paper.

    The covariance is :math:`(1 - \rho) S + \rho\, (\mathrm{tr}\,S / d)\, I`, so the ridge follows
    the scale of the data. An absolute ridge could dominate S, because the trace of S is at most 1
    for unit vectors. Only the n directions that the rows span are stored, not a d × d matrix.

    Parameters
    ----------
    shrinkage : float in (0, 1], "oas" or "ledoit_wolf", default="oas"
        Shrinkage :math:`\rho`, or the name of scikit-learn's rule that estimates it.

    Attributes
    ----------
    location_ : ndarray of shape (n_features,)
        Mean of the rows.
    shrinkage_ : float
        Shrinkage :math:`\rho` of the covariance.
    log_determinant_ : float
        Logarithm of the determinant of the covariance.
    n_features_in_ : int
        Number of features of X in ``fit``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features of X in ``fit``, if they are all strings.

    See Also
    --------
    KernelDensity : The default density of :class:`skcoft.COFTDetector`.
    sklearn.covariance.OAS : The covariance without a density.

    References
    ----------
    .. [1] Liao et al., "COFT-AD: COntrastive Fine-Tuning for Few-Shot Anomaly Detection",
       IEEE TIP 2024, arXiv 2402.18998 (Gaussian on embeddings of augmented shots).
    .. [2] Chen et al., "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE TSP 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skcoft.density import GaussianDensity
    >>> X = np.random.default_rng(0).normal(size=(8, 100))
    >>> density = GaussianDensity().fit(X)
    >>> bool(density.score_samples(X)[0] > density.score_samples(X + 3)[0])
    True
    """

    _constraints = {
        "shrinkage": any_of(number(low=0, high=1, open_low=True), one_of("oas", "ledoit_wolf"))
    }

    def __init__(self, shrinkage: float | Literal["oas", "ledoit_wolf"] = "oas") -> None:
        self.shrinkage = shrinkage

    def fit(self, X: npt.ArrayLike, y: None = None, moves: npt.ArrayLike | None = None) -> Self:
        """Estimate the mean and the shrunk covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to fit.
        y : None
            Ignored.
        moves : array-like of shape (n_moves, n_features), default=None
            Differences between rows that should score alike, such as the embeddings of an image
            with and without noise. Their mean square is added to the covariance.

        Returns
        -------
        GaussianDensity
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is invalid.
        """
        check_parameters(self, self._constraints)
        rows: np.ndarray = validate_data(self, X, dtype=np.float64)
        n, d = rows.shape
        self.location_ = rows.mean(axis=0)
        centered = rows - self.location_
        self.shrinkage_ = self._estimate_shrinkage(centered)
        ridge = ridge_of(self.shrinkage_, np.square(centered).sum() / n, d)
        spans = [centered * np.sqrt((1 - self.shrinkage_) / n)]  # their squares: the covariance
        if moves is not None:
            moves = check_moves(moves, d)
            spans.append(moves / len(moves) ** 0.5)
        _, singular, directions = np.linalg.svd(np.concatenate(spans), full_matrices=False)
        self._directions = directions.T
        self._set_variances(np.square(singular) + ridge, ridge)
        return self

    def _estimate_shrinkage(self, centered: np.ndarray) -> float:
        """Return the shrinkage of the covariance of centered rows."""
        n, d = centered.shape
        if d == 1 or n == 1:  # the rules are undefined here, but shrinkage has no effect either
            return 1.0
        if self.shrinkage == "oas":
            return oas_shrinkage(*trace_and_squared_norm(centered), n, d)
        if self.shrinkage == "ledoit_wolf":
            rho = ledoit_wolf_shrinkage(centered, assume_centered=True)
            return float(np.clip(rho, MIN_SHRINKAGE, 1))
        return float(self.shrinkage)

    def _set_variances(self, spanned: np.ndarray, ridge: float) -> None:
        """Set the variances along the spanned directions, and outside of their span."""
        d = len(self.location_)
        self._spanned, self._ridge = spanned, ridge
        self._excess_precision = 1 / spanned - 1 / ridge
        self.log_determinant_ = np.log(spanned).sum() + (d - len(spanned)) * np.log(ridge)

    def fit_at_scale_of(
        self,
        fitted: "GaussianDensity",
        X: npt.ArrayLike,
        moves: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit, then scale the covariance to the determinant of that of another estimator.

        Parameters
        ----------
        fitted : GaussianDensity
            A fitted estimator, usually of a larger set that includes X.
        X : array-like of shape (n_samples, n_features)
            The rows to fit.
        moves : array-like of shape (n_moves, n_features), default=None
            As in ``fit``.

        Returns
        -------
        GaussianDensity
            The fitted estimator. Its scores and those of ``fitted`` are on the same scale.
        """
        self.fit(X, moves=moves)
        factor = np.exp((fitted.log_determinant_ - self.log_determinant_) / len(self.location_))
        self._set_variances(self._spanned * factor, self._ridge * factor)
        return self

    def whiten(self, X: npt.ArrayLike) -> np.ndarray:
        """Express rows in units of the covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to express.

        Returns
        -------
        ndarray of shape (n_samples, n_directions + 1)
            Coordinates along the directions that the fitted rows span, followed by the distance
            from their span. This distance is 0 for the fitted rows. So distances to fitted rows
            are Mahalanobis distances.

        Raises
        ------
        ValueError
            If X is invalid, or its number of features differs from that in ``fit``.
        """
        check_is_fitted(self, "location_")
        centered = validate_data(self, X, dtype=np.float64, reset=False) - self.location_
        along = centered @ self._directions
        outside = np.square(centered).sum(axis=1) - np.square(along).sum(axis=1)
        outside = np.sqrt(outside.clip(min=0) / self._ridge)
        return np.column_stack([along / np.sqrt(self._spanned), outside])

    def score_samples(self, X: npt.ArrayLike) -> np.ndarray:
        """Return the log density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to score.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log density in nats, float64; higher means more normal.

        Raises
        ------
        ValueError
            If X is invalid, or its number of features differs from that in ``fit``.
        """
        check_is_fitted(self, "location_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        d = rows.shape[1]
        squared = in_chunks(self._squared_mahalanobis, rows, d)
        return -0.5 * (squared + self.log_determinant_ + d * LOG_2PI)

    def _squared_mahalanobis(self, rows: np.ndarray) -> np.ndarray:
        centered = rows - self.location_
        spanned = np.square(centered @ self._directions)
        return spanned @ self._excess_precision + np.square(centered).sum(axis=1) / self._ridge

    def score(self, X: npt.ArrayLike, y: None = None) -> float:
        """Return the total log density of the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to score.
        y : None
            Ignored.

        Returns
        -------
        float
            Sum of the log densities.
        """
        return float(np.sum(self.score_samples(X)))


# What the state of each class holds in model files, in the language of _persistence/fields.py.
DENSITY_STATE_FIELDS: dict[type, dict[str, Any]] = {
    GaussianDensity: {
        "shrinkage": (Real, str),
        "location_": "f8 d",
        "shrinkage_": Real,
        "log_determinant_": Real,
        "_directions": "f8 d r",
        "_spanned": "f8 r",
        "_excess_precision": "f8 r",
        "_ridge": Real,
        "n_features_in_": Integral,
        "feature_names_in_": np.ndarray,
    },
    KernelDensity: {
        "bandwidth": (Real, str),
        "covariance_type": str,
        "bandwidth_": Real,
        "_shape": (GaussianDensity, None),
        "_center": "f8 w",
        "_kernels": "f8 k v",
        "n_features_in_": Integral,
        "feature_names_in_": np.ndarray,
    },
}


def check_moves(moves: npt.ArrayLike, n_features: int) -> np.ndarray:
    """Return moves as an array (n_moves, n_features); raise ValueError if they are invalid."""
    array: np.ndarray = check_array(moves, dtype=np.float64, input_name="moves")
    if array.shape[1] != n_features:
        raise ValueError(
            f"moves has {array.shape[1]} features, but X has {n_features}. Pass differences "
            "between rows of X."
        )
    return array


def log_constant(
    n: int, d: int, bandwidth: float, shape: GaussianDensity | None = None
) -> np.float64:
    """Return the logarithm of the divisor of a sum of n Gaussian kernels in d dimensions.

    ``shape`` has the covariance of the kernels; None means the identity.
    """
    constant = np.log(n) + d * np.log(bandwidth) + 0.5 * d * LOG_2PI
    return constant if shape is None else constant + 0.5 * shape.log_determinant_


def trace_and_squared_norm(centered: np.ndarray) -> tuple[float, float]:
    """Return the trace and the squared Frobenius norm of the covariance of centered rows."""
    n, d = centered.shape
    gram = centered @ centered.T if n < d else centered.T @ centered
    return float(np.trace(gram) / n), float(np.square(gram).sum() / n**2)


def ridge_of(shrinkage: float, trace: float, d: int) -> float:
    """Return the ridge of a covariance with this trace; 1 if all rows are equal.

    Any scale ranks the same then.
    """
    ridge = shrinkage * trace / d
    return ridge if ridge > np.finfo(np.float64).tiny else 1.0


def oas_shrinkage(trace: float, squared_norm: float, n: int, d: int) -> float:
    """Return the oracle approximating shrinkage of the covariance of n rows in d dimensions.

    It follows from the trace and the squared Frobenius norm of the covariance.
    :func:`sklearn.covariance.oas` builds the d x d covariance, which takes minutes if there are
    thousands of features.
    """
    squares, mean = squared_norm / d**2, trace / d
    denominator = (n + 1) * (squares - mean**2 / d)
    shrinkage = min((squares + mean**2) / denominator, 1.0) if denominator > 0 else 1.0
    return max(shrinkage, MIN_SHRINKAGE)


def in_chunks(
    function: Callable[[np.ndarray], np.ndarray], X: np.ndarray, width: int
) -> np.ndarray:
    """Apply a function to chunks of rows of a fixed size; pad the last chunk.

    With chunks of one shape, the result for a row does not depend on the number of rows: matrix
    products of another height may add up in another order. ``width`` is the number of float64
    values that the function needs per row.
    """
    budget = get_config()["working_memory"] * 2**20
    size = int(np.clip(budget // (8 * max(width, 1)), 1, 128))
    out = np.empty(len(X))
    for start in range(0, len(X), size):
        rows = X[start : start + size]
        full = rows if len(rows) == size else np.pad(rows, ((0, size - len(rows)), (0, 0)))
        out[start : start + size] = function(full)[: len(rows)]
    return out


def logsumexp_rows(exponents: np.ndarray) -> np.ndarray:
    """Return the log-sum-exp of each row; overwrite ``exponents`` to save memory."""
    top = exponents.max(axis=1, keepdims=True)
    exponents -= top
    with np.errstate(under="ignore"):  # of kernels that are far away, which count as 0
        np.exp(exponents, out=exponents)
    return np.log(exponents.sum(axis=1)) + top[:, 0]


def group_weights(groups: np.ndarray) -> np.ndarray | None:
    """Return weights of rows, 1 on average, that give groups equal weight; None if all are 1."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if counts.min() == counts.max():
        return None
    return len(groups) / len(counts) / counts[inverse]


def scott_bandwidth(centered: np.ndarray, n_groups: int) -> float:
    """Return the bandwidth of Scott's rule in the effective dimension; 1 if all rows are equal."""
    trace, squared_norm = trace_and_squared_norm(centered)
    if not squared_norm > 0:
        return 1.0
    effective = trace**2 / squared_norm
    return float(np.sqrt(trace / effective) * n_groups ** (-1 / (effective + 4)))


def likelihood_bandwidth(
    centered: np.ndarray, groups: np.ndarray, weights: np.ndarray | None, start: float
) -> float:
    """Return the bandwidth that maximises the leave-one-group-out log-likelihood.

    The search is bounded to 0.01 to 10 times ``start``.
    """
    n, d = centered.shape
    weights = np.ones(n) if weights is None else weights
    log_weights = np.log(weights)
    squared = np.square(centered).sum(axis=1)
    chunk_size = max(1, int(get_config()["working_memory"] * 2**20 // (8 * n)))

    def negative_log_likelihood(log_b: float) -> float:
        precision, total = np.exp(-2 * log_b), 0.0
        for chunk in gen_batches(n, chunk_size):
            exponents = centered[chunk] @ centered.T
            exponents -= 0.5 * (squared[chunk, None] + squared)
            exponents *= precision
            exponents += log_weights
            exponents[groups[chunk, None] == groups] = -np.inf
            total += weights[chunk] @ logsumexp_rows(exponents)
        return n * d * log_b - total

    bounds = np.log(start) + np.log([0.01, 10])
    result = minimize_scalar(
        negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 0.01}
    )
    return float(np.exp(result.x))
