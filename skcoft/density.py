"""Density estimators for embeddings: few rows, many dimensions, log domain, float64."""

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn import get_config
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ._utils.params import any_of, check_parameters, number, one_of

__all__ = ["GaussianDensity", "KernelDensity"]

LOG_2PI = np.log(2 * np.pi)


class KernelDensity(DensityMixin, BaseEstimator):
    r"""Kernel density estimate with a Gaussian kernel, for few points in many dimensions.

    .. math::

        \log p(z) = \log \sum_j \exp\left(-\frac{\lVert z - s_j \rVert^2}{2 b^2}\right)
        - \log n - d \log b - \tfrac{d}{2} \log 2\pi

    Computed by matrix products in float64 and never outside the log domain, in chunks bounded by
    scikit-learn's ``working_memory``. The score of a row does not depend on the other rows of the
    call, to the last bit.

    Parameters
    ----------
    bandwidth : float, "scale" or "loo", default="scale"
        The kernel's standard deviation b.

        - ``"scale"``: Scott's rule in the effective dimension,
          :math:`b^2 = (\mathrm{tr}\,\Sigma / d_e)\, k^{-2/(d_e + 4)}`, with
          :math:`d_e = (\mathrm{tr}\,\Sigma)^2 / \lVert\Sigma\rVert_F^2` and k the number of
          groups. It follows the scale of the data and holds for n < d.
        - ``"loo"``: the b of greatest log-likelihood of every group under the kernels of the
          other groups (without ``groups``, leave-one-out).
    covariance_type : {"spherical", "full"}, default="spherical"
        Shape of the kernels. ``"full"`` means that of the rows' covariance, shrunk as in
        :class:`GaussianDensity`: the equation then holds for rows that are whitened by it, and b
        is in units of it, as in ``scipy.stats.gaussian_kde``. With fewer rows than
        features, what lies outside of their span then counts most. It is what
        :class:`skcoft.COFTDetector` means by ``"kde"`` for images.

    Attributes
    ----------
    bandwidth_ : float
        The bandwidth in use.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of features seen during fit, where X has them.

    See Also
    --------
    GaussianDensity : One Gaussian with a shrunk covariance, as in the COFT-AD paper.
    sklearn.neighbors.KernelDensity : Tree-based, for low dimensions; other kernels.

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

    def __init__(self, bandwidth="scale", covariance_type="spherical"):
        self.bandwidth = bandwidth
        self.covariance_type = covariance_type

    def fit(self, X, y=None, groups=None):
        """Place a kernel on every row and choose the bandwidth.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The support.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Table of one group (views of one shot) are not independent: together they count once,
            in ``"scale"`` and by the weights of their kernels where groups differ in size, and are
            left out together in ``"loo"``. By default each row is its own.

        Returns
        -------
        KernelDensity
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is invalid, or groups has another length than X.
        """
        return self._fit(X, groups)

    def _fit(self, X, groups, fitted=None):
        """Fit, with kernels as large as those of a fitted estimator, if there is one."""
        check_parameters(self, self._constraints)
        X = validate_data(self, X, dtype=np.float64)
        groups = np.arange(len(X)) if groups is None else np.asarray(groups)
        check_consistent_length(X, groups)
        self._shape = None
        if self.covariance_type == "full":
            shape = GaussianDensity()
            self._shape = shape.fit_at_scale_of(fitted._shape, X) if fitted else shape.fit(X)
        X = self._whiten(X)
        weights = group_weights(groups)
        self._center = np.average(X, axis=0, weights=weights)
        X = X - self._center
        if isinstance(self.bandwidth, str):
            n_groups = len(np.unique(groups))
            spread = X if weights is None else X * np.sqrt(weights)[:, None]
            self.bandwidth_ = scott_bandwidth(spread, n_groups)
            if self.bandwidth == "loo" and n_groups > 1:
                self.bandwidth_ = likelihood_bandwidth(X, groups, weights, self.bandwidth_)
        else:
            self.bandwidth_ = float(self.bandwidth)
        scaled = X / self.bandwidth_
        self._kernels = np.c_[scaled, -0.5 * np.square(scaled).sum(axis=1)]
        if weights is not None:
            self._kernels[:, -1] += np.log(weights)
        return self

    def fit_at_scale_of(self, fitted, X, groups=None):
        """Place kernels on other rows, of the bandwidth of another fitted estimator.

        Parameters
        ----------
        fitted : KernelDensity
            A fitted estimator, usually of a larger set that X is a part of.
        X : array-like of shape (n_samples, n_features)
            The support.
        groups : array-like of shape (n_samples,), default=None
            As in fit.

        Returns
        -------
        KernelDensity
            The fitted estimator; its scores and those of ``fitted`` are on one scale.
        """
        self.set_params(bandwidth=fitted.bandwidth_)
        return self._fit(X, groups, fitted)

    def score_samples(self, X):
        """Log density of each row.

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
            If X is invalid or has another number of features than in fit.
        """
        check_is_fitted(self, "bandwidth_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        n, d = len(self._kernels), X.shape[1]
        constant = log_constant(n, d, self.bandwidth_)
        if self._shape is not None:
            constant += 0.5 * self._shape.log_determinant_
        return in_chunks(self._log_kernel_sum, X, n) - constant

    def _whiten(self, rows):
        return rows if self._shape is None else self._shape.whiten(rows)

    def _log_kernel_sum(self, rows):
        rows = self._whiten(rows)
        z = np.ones((len(rows), rows.shape[1] + 1))
        np.subtract(rows, self._center, out=z[:, :-1])
        z[:, :-1] /= self.bandwidth_
        exponents = z @ self._kernels.T
        return logsumexp_rows(exponents) - 0.5 * np.square(z[:, :-1]).sum(axis=1)

    def score(self, X, y=None):
        """Total log density of the rows of X.

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


class GaussianDensity(DensityMixin, BaseEstimator):
    r"""One Gaussian with a shrunk covariance: the Mahalanobis score of the COFT-AD paper.

    The covariance is :math:`(1 - \rho) S + \rho\, (\mathrm{tr}\,S / d)\, I`, so the ridge follows
    the scale of the data: unit vectors have tr S of at most 1, where an absolute ridge would
    swamp S. Only the n directions that the rows span are stored, never a d × d matrix per query.

    Parameters
    ----------
    shrinkage : float in (0, 1], "oas" or "ledoit_wolf", default="oas"
        :math:`\rho`, or scikit-learn's rule that estimates it.

    Attributes
    ----------
    location_ : ndarray of shape (n_features,)
        The mean.
    shrinkage_ : float
        The shrinkage in use.
    log_determinant_ : float
        Logarithm of the covariance's determinant.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of features seen during fit, where X has them.

    See Also
    --------
    KernelDensity : The default density of :class:`skcoft.COFTDetector`.
    sklearn.covariance.OAS : The covariance alone.

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

    def __init__(self, shrinkage="oas"):
        self.shrinkage = shrinkage

    def fit(self, X, y=None):
        """Estimate the mean and the shrunk covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to fit.
        y : None
            Ignored.

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
        X = validate_data(self, X, dtype=np.float64)
        n, d = X.shape
        self.location_ = X.mean(axis=0)
        centered = X - self.location_
        _, singular, directions = np.linalg.svd(centered, full_matrices=False)
        variances = np.square(singular) / n
        if d == 1 or n == 1:  # the rules are undefined here, and shrinkage changes nothing
            self.shrinkage_ = 1.0
        elif self.shrinkage == "oas":
            self.shrinkage_ = float(np.clip(oas_shrinkage(variances, n, d), 1e-12, 1))
        elif self.shrinkage == "ledoit_wolf":
            rho = ledoit_wolf_shrinkage(centered, assume_centered=True)
            self.shrinkage_ = float(np.clip(rho, 1e-12, 1))
        else:
            self.shrinkage_ = float(self.shrinkage)
        ridge = self.shrinkage_ * variances.sum() / d
        if ridge <= np.finfo(np.float64).tiny:  # all rows equal: any scale ranks alike
            ridge = 1.0
        self._directions = directions.T
        self._set_variances((1 - self.shrinkage_) * variances + ridge, ridge)
        return self

    def _set_variances(self, spanned, ridge):
        d = len(self.location_)
        self._spanned, self._ridge = spanned, ridge
        self._excess_precision = 1 / spanned - 1 / ridge
        self.log_determinant_ = np.log(spanned).sum() + (d - len(spanned)) * np.log(ridge)

    def fit_at_scale_of(self, fitted, X):
        """Fit other rows, then scale the covariance to the determinant of another estimator's.

        Parameters
        ----------
        fitted : GaussianDensity
            A fitted estimator, usually of a larger set that X is a part of.
        X : array-like of shape (n_samples, n_features)
            The rows to fit.

        Returns
        -------
        GaussianDensity
            The fitted estimator; its scores and those of ``fitted`` are on one scale.
        """
        self.fit(X)
        d = len(self.location_)
        factor = np.exp((fitted.log_determinant_ - self.log_determinant_) / d)
        self._set_variances(self._spanned * factor, self._ridge * factor)
        return self

    def whiten(self, X):
        """Bring rows to units of the covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_directions + 1)
            Coordinates along the directions that the fitted rows span, then the distance from
            their span. The fitted rows have a distance of 0, so distances to them are those of
            Mahalanobis.

        Raises
        ------
        ValueError
            If X is invalid or has another number of features than in fit.
        """
        check_is_fitted(self, "location_")
        centered = validate_data(self, X, dtype=np.float64, reset=False) - self.location_
        along = centered @ self._directions
        outside = np.square(centered).sum(axis=1) - np.square(along).sum(axis=1)
        outside = np.sqrt(outside.clip(min=0) / self._ridge)
        return np.column_stack([along / np.sqrt(self._spanned), outside])

    def score_samples(self, X):
        """Log density of each row.

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
            If X is invalid or has another number of features than in fit.
        """
        check_is_fitted(self, "location_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        squared = in_chunks(self._squared_mahalanobis, X, X.shape[1])
        return -0.5 * (squared + self.log_determinant_ + X.shape[1] * LOG_2PI)

    def _squared_mahalanobis(self, rows):
        centered = rows - self.location_
        spanned = np.square(centered @ self._directions)
        return spanned @ self._excess_precision + np.square(centered).sum(axis=1) / self._ridge

    def score(self, X, y=None):
        """Total log density of the rows of X.

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


def log_constant(n, d, bandwidth):
    """Logarithm of what a sum of n Gaussian kernels in d dimensions is divided by."""
    return np.log(n) + d * np.log(bandwidth) + 0.5 * d * LOG_2PI


def oas_shrinkage(variances, n, d):
    """Oracle approximating shrinkage, from the eigenvalues of the covariance of n rows.

    As :func:`sklearn.covariance.oas`, which builds the d x d covariance: minutes at thousands of
    features.
    """
    squares, mean = np.square(variances).sum() / d**2, variances.sum() / d
    denominator = (n + 1) * (squares - mean**2 / d)
    return min((squares + mean**2) / denominator, 1.0) if denominator > 0 else 1.0


def in_chunks(function, X, width):
    """Apply ``function`` to chunks of rows of one fixed size, the last one padded.

    A fixed shape keeps every row's result independent of the number of rows: matrix products
    of another height may add up in another order. ``width`` is the number of float64 values
    that one row needs.
    """
    budget = get_config()["working_memory"] * 2**20
    size = int(np.clip(budget // (8 * max(width, 1)), 1, 128))
    out = np.empty(len(X))
    for start in range(0, len(X), size):
        rows = X[start : start + size]
        full = rows if len(rows) == size else np.pad(rows, ((0, size - len(rows)), (0, 0)))
        out[start : start + size] = function(full)[: len(rows)]
    return out


def logsumexp_rows(exponents):
    """Row-wise log-sum-exp, in place: ``exponents`` is overwritten."""
    top = exponents.max(axis=1, keepdims=True)
    exponents -= top
    np.exp(exponents, out=exponents)
    return np.log(exponents.sum(axis=1)) + top[:, 0]


def group_weights(groups):
    """Weights of rows, 1 on average, by which every group counts once; None: they are equal."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if counts.min() == counts.max():
        return None
    return len(groups) / len(counts) / counts[inverse]


def scott_bandwidth(centered, n_groups):
    """Scott's rule in the effective dimension; 1 where the rows have no spread."""
    n, d = centered.shape
    gram = centered @ centered.T if n < d else centered.T @ centered
    trace, squared_norm = np.trace(gram) / n, np.square(gram).sum() / n**2
    if not squared_norm > 0:
        return 1.0
    effective = trace**2 / squared_norm
    return float(np.sqrt(trace / effective) * n_groups ** (-1 / (effective + 4)))


def likelihood_bandwidth(centered, groups, weights, start):
    """Bandwidth of greatest leave-one-group-out log-likelihood, within 1/100 to 10 of start."""
    n, d = centered.shape
    weights = np.ones(n) if weights is None else weights
    log_weights = np.log(weights)
    squared = np.square(centered).sum(axis=1)
    rows = max(1, int(get_config()["working_memory"] * 2**20 // (8 * n)))

    def negative_log_likelihood(log_b):
        precision, total = np.exp(-2 * log_b), 0.0
        for i in range(0, n, rows):
            part = slice(i, i + rows)
            exponents = centered[part] @ centered.T
            exponents -= 0.5 * (squared[part, None] + squared)
            exponents *= precision
            exponents += log_weights
            exponents[groups[part, None] == groups] = -np.inf
            total += weights[part] @ logsumexp_rows(exponents)
        return n * d * log_b - total

    bounds = np.log(start) + np.log([0.01, 10])
    result = minimize_scalar(
        negative_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 0.01}
    )
    return float(np.exp(result.x))
