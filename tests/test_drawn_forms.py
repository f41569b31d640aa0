"""Drawn forms of X: the same scores as the array, or an error of ours that names X."""

import warnings

import numpy as np
import pytest
from form_strategies import ODD, TEST, fitted_detector, forms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

SETTINGS = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def detector():
    return fitted_detector()


@pytest.fixture(scope="module")
def tolerant():
    return fitted_detector(on_error="nan")


@pytest.fixture(scope="module")
def expected(detector):
    return detector.score_samples(TEST)


def check_form(detector, expected, name, X):
    """Raise AssertionError unless X gives these scores or an error of ours that names X."""
    try:
        scores = detector.score_samples(X)
    except (ValueError, TypeError) as error:
        assert "X" in str(error), (name, error)
        return False
    assert_allclose(scores, expected, rtol=1e-4, err_msg=name)
    return True


@SETTINGS
@given(forms)
def test_every_form_gives_the_scores_of_the_array_or_an_error_that_names_x(
    detector, expected, form
):
    check_form(detector, expected, *form)


@SETTINGS
@given(forms)
def test_forms_of_readable_images_lose_none_when_errors_are_nan(tolerant, expected, form):
    name, X = form
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scores = tolerant.score_samples(X)
        except ValueError as error:
            assert "X" in str(error), (name, error)
            return
    if name != "array of bytes":  # of paths, which are no contents
        assert_allclose(scores, expected, rtol=1e-4, err_msg=name)


@settings(SETTINGS, max_examples=60)
@given(st.dictionaries(st.integers(0, 5), st.sampled_from(sorted(ODD)), max_size=5), st.booleans())
def test_an_odd_item_costs_its_own_score_only(tolerant, expected, odd, as_stream):
    X = [ODD[odd[i]]() if i in odd else image for i, image in enumerate(TEST)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = tolerant.score_samples(iter(X) if as_stream else X)
        labels = tolerant.predict(X)
    is_odd = np.isin(np.arange(6), list(odd))
    assert_array_equal(np.isnan(scores), is_odd, err_msg=str(odd))
    assert_allclose(scores[~is_odd], expected[~is_odd], rtol=1e-6)
    assert (labels[is_odd] == -1).all()
