"""Collections and tools of others, as their users combine them with the estimators."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn import random_projection
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch.utils.data import Dataset, Subset

from skcoft import COFTDetector, COFTEmbedder


@pytest.fixture
def embedder(tiny_net):
    return COFTEmbedder(tiny_net, max_iter=0, random_state=0)


def test_a_column_of_paths_among_others(embedder, photos, tmp_path):
    paths = []
    for i, photo in enumerate(photos):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(photo).save(paths[-1])
    frame = pd.DataFrame({"path": paths, "weight": range(12)})
    columns = ColumnTransformer([("image", embedder, ["path"])], remainder="passthrough")
    actual = columns.fit_transform(frame)
    assert_array_equal(actual[:, :-1], embedder.fit_transform(photos))
    assert_array_equal(embedder.fit_transform(np.array(paths)[:, None]), actual[:, :-1])


class Records(Dataset):
    """Items are images with their labels, or, as some formats have it, tensors alone."""

    def __init__(self, images, labels=True):
        self.images = images
        self.labels = labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).permute(2, 0, 1)
        return (image, i % 2) if self.labels else image


@pytest.mark.parametrize("labels", [True, False])
def test_data_sets_of_torch(labels, embedder, photos):
    expected = embedder.fit_transform(photos)
    records = Records(photos, labels)
    assert_array_equal(embedder.fit_transform(records), expected)
    assert_array_equal(embedder.transform(Subset(records, [3, 1])), expected[[3, 1]])


def test_gray_images_with_premultiplied_alpha(embedder):
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8))
    with_alpha = gray.convert("LA").convert("La")
    assert with_alpha.mode == "La"
    actual = embedder.fit_transform([gray, with_alpha])
    assert_array_equal(actual[0], actual[1])


def test_a_scaler_before(tiny_net, photos):
    """Its values are a hair above 1."""
    flat = photos.reshape(12, -1)
    pipeline = make_pipeline(
        MinMaxScaler(), COFTDetector(tiny_net, image_shape=(24, 20, 3), max_iter=0)
    )
    assert pipeline.fit(flat).predict(flat).shape == (12,)


def test_no_estimator_of_scikit_learn_is_fitted_on_the_way(photos, monkeypatch):
    """A tool that logs every fit would record it as the user's model."""
    fitted = []
    for cls in [random_projection.BaseRandomProjection, *BaseEstimator.__subclasses__()]:
        if cls.__module__.startswith("sklearn") and "fit" in vars(cls):
            monkeypatch.setattr(cls, "fit", lambda self, *args, **kwargs: fitted.append(self))
    COFTDetector("embedded", image_size=32, max_iter=1, random_state=0).fit(photos)
    assert not fitted


def test_the_import_loads_no_bar_of_notebooks():
    code = "import sys, skcoft; assert 'tqdm.auto' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
