"""Densities of some of the rows, from the inner products of all rows.

Every fold of held-out scores fits a density. Its singular value decomposition takes most of the
time, and all folds share most of their rows. The inner products (the Gram matrix) of all rows are
computed once, and the densities here need nothing else.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from ..density import (
    LOG_2PI,
    GaussianDensity,
    KernelDensity,
    group_weights,
    log_constant,
    logsumexp_rows,
    oas_shrinkage,
    ridge_of,
)

# Inner products lose digits if rows are long compared to the ridge. This is the maximum of their
# squared length, divided by the ridge.
MAX_SQUARED_LENGTH = 1e8


@dataclass(frozen=True)
class Gram:
    """Inner products of rows and moves; scores some of the rows by a density of others.

    Let A be the m vectors whose outer products sum up to the covariance without its ridge r: rows
    of the fold, centered and scaled, and moves. With the Woodbury identity and Sylvester's
    determinant theorem, inner products are enough:

    .. math::

        (A^T A + r I)^{-1} &= (I - A^T (A A^T + r I)^{-1} A) / r

        |A^T A + r I| &= r^{d - m} |A A^T + r I|

    Attributes
    ----------
    products : ndarray of shape (n_rows + n_moves, n_rows + n_moves)
        Inner products of the centered rows, followed by the moves.
    n_rows : int
        Number of rows.
    width : int
        Number of features d of a row.
    """

    products: np.ndarray
    n_rows: int
    width: int

    @classmethod
    def of(cls, rows: np.ndarray, moves: np.ndarray | None) -> "Gram":
        """Return the inner products of rows (n, d) and moves (m, d)."""
        # centered already here, because rows differ by little compared to their length
        points = rows - rows.mean(axis=0)
        if moves is not None:
            points = np.concatenate([points, moves])
        return cls(points @ points.T, *rows.shape)

    def score(
        self,
        fitted: GaussianDensity | KernelDensity,
        train: np.ndarray,
        test: np.ndarray,
        groups: np.ndarray,
        moves: np.ndarray,
    ) -> np.ndarray:
        """Return the scores of rows by a density of others, at the scale of a fitted density.

        Parameters
        ----------
        fitted : GaussianDensity or KernelDensity
            The density of all rows.
        train, test : ndarray of int
            Rows of the density, and rows to score.
        groups : ndarray of shape (n_train,)
            Groups of the training rows.
        moves : ndarray of int
            Moves of the density.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the inner products have too few digits.
        """
        shape, products = shape_of(fitted), self._centered_at(train)
        if shape is not None:
            products = self._whiten(products, shape, train, self.n_rows + moves)
        lengths = np.diagonal(products)
        if isinstance(fitted, GaussianDensity):
            constant = fitted.log_determinant_ + self.width * LOG_2PI
            return -0.5 * (lengths[test] + constant)
        exponents = products[np.ix_(test, train)]
        exponents -= 0.5 * (lengths[test, None] + lengths[train])
        exponents /= fitted.bandwidth_**2
        weights = group_weights(groups)
        if weights is not None:
            exponents += np.log(weights)
        constant = log_constant(len(train), self.width, fitted.bandwidth_, shape)
        return logsumexp_rows(exponents) - constant

    def _centered_at(self, train: np.ndarray) -> np.ndarray:
        """Return the products of rows from which the mean of some rows is subtracted."""
        products = self.products.copy()
        products[: self.n_rows] -= products[train].mean(axis=0)
        products[:, : self.n_rows] -= products[:, train].mean(axis=1, keepdims=True)
        return products

    def _whiten(
        self, products: np.ndarray, shape: GaussianDensity, train: np.ndarray, moves: np.ndarray
    ) -> np.ndarray:
        """Return the products of rows in units of the covariance of some rows and moves.

        The covariance has the determinant of that of ``shape``.
        """
        n, d = len(train), self.width
        shrinkage, ridge = estimate_ridge(products[np.ix_(train, train)], d, shape.shrinkage)
        spanning = np.concatenate([train, moves])
        scale_of_rows, scale_of_moves = ((1 - shrinkage) / n) ** 0.5, max(len(moves), 1) ** -0.5
        scales = np.repeat([scale_of_rows, scale_of_moves], [n, len(moves)])
        span = products[spanning] * scales[:, None]
        covariance = span[:, spanning] * scales
        largest = max(products.diagonal()[: self.n_rows].max(), covariance.diagonal()[n:].sum())
        if largest > MAX_SQUARED_LENGTH * ridge:
            raise np.linalg.LinAlgError("The inner products have too few digits.")
        root = np.linalg.cholesky(covariance + ridge * np.eye(len(spanning)))
        log_determinant = 2 * np.log(root.diagonal()).sum() + (d - len(root)) * np.log(ridge)
        explained = solve_triangular(root, span[:, : self.n_rows], lower=True)
        ridge *= np.exp((shape.log_determinant_ - log_determinant) / d)
        return (products[: self.n_rows, : self.n_rows] - explained.T @ explained) / ridge


def can_use_gram(fitted: Any, rows: np.ndarray, moves: np.ndarray | None) -> bool:
    """Return whether :class:`Gram` can score by a density, and takes less time."""
    if type(fitted) not in (GaussianDensity, KernelDensity):
        return False
    shape = shape_of(fitted)
    is_known = shape is None or shape.shrinkage != "ledoit_wolf"
    return is_known and len(rows) + (0 if moves is None else len(moves)) <= rows.shape[1]


def shape_of(fitted: GaussianDensity | KernelDensity) -> GaussianDensity | None:
    """Return the density whose covariance a density has; None for spherical kernels."""
    return fitted if isinstance(fitted, GaussianDensity) else vars(fitted)["_shape"]


def estimate_ridge(products: np.ndarray, d: int, rule: float | str) -> tuple[float, float]:
    """Return the shrinkage of a covariance and its ridge, as :class:`GaussianDensity`.

    ``products`` are those of the centered rows, in d dimensions.
    """
    n = len(products)
    trace = float(np.trace(products)) / n
    if n == 1 or d == 1:
        shrinkage = 1.0
    elif rule == "oas":
        shrinkage = oas_shrinkage(trace, float(np.square(products).sum()) / n**2, n, d)
    else:
        shrinkage = float(rule)
    return shrinkage, ridge_of(shrinkage, trace, d)
