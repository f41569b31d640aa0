import numpy as np
import pandas as pd
from conftest import TinyNet
from sklearn.datasets import load_digits

from skcoft import COFTEmbedder
from skcoft._parameters import EMBEDDER_CONSTRAINTS

PARAMS = dict(backbone=TinyNet(), max_iter=2, random_state=0)


def test_names_and_data_frames(digits):
    zeros, _ = digits
    embedder = COFTEmbedder(**PARAMS).fit(zeros[:8])
    names = embedder.get_feature_names_out()
    assert names.tolist() == [f"coftembedder{i}" for i in range(16)]
    frame = embedder.set_output(transform="pandas").transform(zeros[:5])
    assert isinstance(frame, pd.DataFrame) and frame.columns.tolist() == names.tolist()
    polars = embedder.set_output(transform="polars").transform(zeros[:5])
    np.testing.assert_array_equal(polars.to_numpy(), frame.to_numpy())


def test_names_of_columns_are_kept():
    data = load_digits(as_frame=True).data[:8] / 16
    embedder = COFTEmbedder(**PARAMS, image_shape=(8, 8)).fit(data)
    assert embedder.n_features_in_ == 64
    assert embedder.feature_names_in_.tolist() == data.columns.tolist()


def test_embeddings_are_unit_vectors(digits):
    h = COFTEmbedder(**PARAMS).fit_transform(digits[0][:8])
    assert h.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(h, axis=1), 1, rtol=1e-6)


def test_every_parameter_but_random_state_is_checked():
    assert set(COFTEmbedder().get_params(deep=False)) - set(EMBEDDER_CONSTRAINTS) == {
        "random_state"
    }


def test_what_is_read_once_is_fitted_and_transformed(digits):
    zeros = digits[0][:8]
    expected = COFTEmbedder(**PARAMS).fit_transform(zeros, groups=[0, 0, *range(6)])
    for once in (iter(zeros), (image for image in zeros), map(np.asarray, zeros)):
        actual = COFTEmbedder(**PARAMS).fit_transform(once, groups=[0, 0, *range(6)])
        np.testing.assert_array_equal(actual, expected)
    frame = COFTEmbedder(**PARAMS).set_output(transform="pandas").fit_transform(iter(zeros))
    assert isinstance(frame, pd.DataFrame) and len(frame) == 8
