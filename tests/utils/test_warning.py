"""Warnings point to the line of the user, however the call reaches skcoft."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcoft import COFTDetector, COFTEmbedder
from skcoft.datasets import make_plates
from skcoft.model_selection import OneClassKFold

PLATES = make_plates(14, 0, size=32, random_state=0).images
DEEP = PLATES.astype(np.uint16) * 16  # 12 bits
ABOVE = DEEP[8:] * 8  # more than 12 bits
FAST = {"backbone": "embedded", "max_iter": 0, "image_size": 32, "random_state": 0}


@pytest.fixture(scope="module")
def deep():
    return COFTDetector(**FAST, bit_depth=12).fit(DEEP[:6])


@pytest.fixture(scope="module")
def tolerant():
    return COFTDetector(**FAST, on_error="nan").fit(PLATES[:6])


BROKEN = [*PLATES[8:], b"no image"]


def lines(call, *arguments):
    """Return the files that the warnings of a call point to."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments)
    return {warning.filename for warning in caught if warning.category is UserWarning}


SCORING = "predict", "score_samples", "decision_function", "predict_pvalue"
MAPPING = "anomaly_map", "find_regions", "embed", "kneighbors"


@pytest.mark.parametrize("method", [*SCORING, *MAPPING, "set_threshold", "partial_fit"])
def test_values_above_the_bit_depth(method, deep):
    detector = clone(deep).fit(DEEP[:6]) if method in ("set_threshold", "partial_fit") else deep
    arguments = {"set_threshold": {"max_fpr": 0.3}}.get(method, {})
    assert lines(partial(getattr(detector, method), **arguments), ABOVE) == {__file__}


@pytest.mark.parametrize("method", SCORING)
def test_unreadable_images(method, tolerant):
    assert lines(getattr(tolerant, method), BROKEN) == {__file__}


@pytest.mark.parametrize("estimator", [COFTDetector, COFTEmbedder])
@pytest.mark.parametrize("method", ["fit", "fit_predict", "fit_transform"])
def test_a_bit_depth_that_is_inferred(estimator, method):
    if hasattr(estimator, method):
        assert lines(getattr(estimator(**FAST), method), DEEP[:6]) == {__file__}


def test_calls_through_other_packages(tolerant):
    frame = pd.Series(["missing.png"]).to_frame()
    calls = [
        lambda: make_pipeline(FunctionTransformer(), tolerant).predict(BROKEN),
        lambda: list(map(partial(tolerant.predict), [BROKEN])),
        lambda: torch.no_grad()(tolerant.predict)(BROKEN),
        lambda: frame.pipe(tolerant.predict),
        lambda: frame.pipe(lambda X: tolerant.predict(X)),
        lambda: cross_val_score(
            COFTDetector(**FAST), DEEP, [1] * 10 + [-1] * 4, cv=OneClassKFold(2)
        ),
    ]
    for call in calls:
        assert lines(call) == {__file__}


def test_a_thread_without_a_line_of_the_user_still_warns(tolerant):
    with ThreadPoolExecutor(1) as pool:
        (file,) = lines(lambda: pool.submit(tolerant.predict, BROKEN).result())
    assert file.endswith("thread.py")


def test_pyod():
    pytest.importorskip("pyod")
    from skcoft.pyod import PyODDetector

    detector = PyODDetector(COFTDetector(**FAST, on_error="nan"))
    assert lines(detector.fit, DEEP[:6]) == {__file__}
    for method in ("predict", "predict_proba", "predict_confidence", "decision_function"):
        assert lines(getattr(detector.fit(PLATES[:6]), method), BROKEN) == {__file__}
