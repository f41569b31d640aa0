"""Several backbones in one detector: a branch each, all parts in one joint score."""

import pickle

import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skcoft import COFTDetector, COFTEmbedder
from skcoft.model_selection import OneClassShuffleSplit

FAST = dict(max_iter=2, n_views=2, learning_rate=0.001, random_state=0)
PAIR = [TinyNet(), TinyNet(width=6, seed=1)]


def detector(backbone, **params):
    return COFTDetector(backbone, **{**FAST, **params})


@pytest.fixture(scope="module")
def fitted(photos):
    return detector(PAIR).fit(photos[:8])


def test_one_in_a_list_is_one(photos):
    one, alone = (detector(net).fit(photos[:6]) for net in (PAIR[:1], PAIR[0]))
    assert_array_equal(one.score_samples(photos), alone.score_samples(photos))
    assert_array_equal(one.embeddings_, alone.embeddings_)
    assert one.offset_ == alone.offset_
    assert set(one.history_) == set(alone.history_)


def test_parts_of_all_are_on_the_scale_of_the_first(fitted, photos):
    """The sum of both detectors' scores, the second's brought to the first's scale."""
    first, second = (detector(net).fit(photos[:8]) for net in PAIR)
    parts = [one._model.joint.components for one in (first, second)]
    assert list(fitted._model.joint.components) == [
        (i, n) for i in (0, 1) for n in ("image", "patch")
    ]
    scale = parts[0][0, "image"].held_out_scores.std()
    expected = first.score_samples(photos)
    second_scale = scale / parts[1][0, "image"].held_out_scores.std()
    location = parts[1][0, "image"].held_out_scores.mean()
    expected = expected + second_scale * (second.score_samples(photos) - location)
    assert_allclose(fitted.score_samples(photos), expected, rtol=1e-9)
    assert np.isfinite(fitted.offset_) and len(fitted.calibration_scores_) == 8


def test_each_is_trained_as_it_would_be_alone(fitted, photos):
    """On the same batches and views: so two of one kind come out the same."""
    for i, net in enumerate(PAIR):
        assert_array_equal(
            fitted.history_[i]["loss"], detector(net).fit(photos[:8]).history_["loss"]
        )
    twins = detector([PAIR[0], PAIR[0]]).fit(photos[:8])
    assert_array_equal(twins.history_[0]["loss"], twins.history_[1]["loss"])
    alone = detector(PAIR[0]).fit(photos[:8])
    location = alone._model.joint.components[0, "image"].held_out_scores.mean()
    assert_allclose(
        twins.score_samples(photos), 2 * alone.score_samples(photos) - location, rtol=1e-9
    )


def test_embeddings_stand_side_by_side(fitted, photos):
    embedder = COFTEmbedder(PAIR, max_iter=2, learning_rate=0.001, random_state=0).fit(photos[:8])
    embedded = embedder.transform(photos)
    alone = [
        COFTEmbedder(net, max_iter=2, learning_rate=0.001, random_state=0)
        .fit(photos[:8])
        .transform(photos)
        for net in PAIR
    ]
    assert_allclose(embedded, np.hstack(alone) / 2**0.5)
    assert_allclose(np.linalg.norm(embedded, axis=1), 1)
    assert_array_equal(embedded, fitted.embed(photos))
    assert len(embedder.get_feature_names_out()) == embedded.shape[1]
    assert_allclose(fitted.embeddings_, embedded[:8], atol=1e-6)
    assert fitted.kneighbors(photos[:8])[1].ravel().tolist() == list(range(8))


def test_attributes_are_lists(fitted):
    assert fitted.n_iter_ == [2, 2] and fitted.weights_ == [None, None]
    assert [set(history) >= {"loss"} for history in fitted.history_] == [True, True]
    embedder = fitted.embedder_
    assert len(embedder.network_) == len(embedder.image_size_) == len(fitted.density_) == 2
    assert embedder.network_[0].width != embedder.network_[1].width
    assert isinstance(fitted.device_, str)


def test_sizes_and_weights_of_each(photos):
    """Two sizes of one backbone are two scales; a tuple is (height, width) for all."""
    fitted = COFTDetector(
        ["resnet10t", "resnet10t"], weights=None, image_size=[32, (48, 64)], max_iter=0
    ).fit(photos[:4])
    assert fitted.embedder_.image_size_ == [(32, 32), (48, 64)]
    assert fitted.anomaly_map(photos[:2]).shape == photos[:2].shape[:3]
    both = COFTEmbedder(PAIR, image_size=(16, 24), max_iter=0).fit(photos[:4])
    assert both.image_size_ == [(16, 24), (16, 24)]


@pytest.mark.parametrize(
    "backbone, name, value",
    [
        (PAIR, "weights", [None]),
        (PAIR, "image_size", [32, 32, 32]),
        (PAIR[0], "weights", [None]),
        (PAIR[0], "weights", (None, None)),
        (PAIR[0], "image_size", (32, (32, 32))),
        ([], "backbone", []),
        (["resnet18", 3], "backbone", ["resnet18", 3]),
        ([None], "backbone", [None]),
    ],
    ids=str,
)
def test_lists_that_do_not_fit_are_refused(backbone, name, value, photos):
    with pytest.raises(ValueError, match=name):
        COFTDetector(**{"backbone": backbone, name: value}).fit(photos)


def test_tuples_have_one_for_each_too(photos):
    sizes = COFTEmbedder(tuple(PAIR), weights=(None, None), image_size=((16, 16), 24), max_iter=0)
    assert sizes.fit(photos[:4]).image_size_ == [(16, 16), (24, 24)]
    alone = COFTEmbedder(PAIR[0], image_size=[16, 24], max_iter=0).fit(photos[:4])
    assert alone.image_size_ == (16, 24)  # of one backbone, a list is (H, W)


def test_maps_on_different_grids_are_averaged_on_the_finest(photos):
    coarse, fine = TinyNet(), TinyNet(seed=1)
    alone = [
        detector(net, image_size=size).fit(photos[:6]).anomaly_map(photos[6:8])
        for net, size in ((coarse, 16), (fine, 32))
    ]
    joined = detector([coarse, fine], image_size=[16, 32]).fit(photos[:6]).anomaly_map(photos[6:8])
    assert joined.shape == alone[0].shape
    assert np.corrcoef(joined.ravel(), (alone[0] + alone[1]).ravel())[0, 1] > 0.98
    assert_allclose(joined.mean(), (alone[0].mean() + alone[1].mean()) / 2, atol=0.2)


def test_more_shots_pickle_and_clone(photos):
    fitted = detector(PAIR).fit(photos[:6])
    before = fitted.score_samples(photos)
    branches = fitted._model.joint.backbone_scores
    fitted.partial_fit(photos[6:8])
    assert [branch.support.n_shots for branch in branches] == [6, 6]  # those of before
    assert [branch.support.n_shots for branch in fitted._model.joint.backbone_scores] == [8, 8]
    assert len(fitted.embeddings_) == 8
    after = fitted.score_samples(photos)
    assert not np.allclose(before, after)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(photos), after)
    assert clone(fitted).get_params()["backbone"] is not None


def test_rows_have_no_backbone():
    rows = np.random.default_rng(0).normal(size=(10, 4))
    listed, alone = (
        COFTDetector(net, max_iter=2, random_state=0).fit(rows[:8]) for net in (PAIR, PAIR[0])
    )
    assert_array_equal(listed.score_samples(rows), alone.score_samples(rows))


def test_a_search_trains_each_backbone_once(photos, tmp_path, monkeypatch):
    import skcoft._training.encoders as module

    trained = []

    def count(encoder, *args, _train=module.fine_tune, **kwargs):
        trained.append(encoder.network.width)
        return _train(encoder, *args, **kwargs)

    monkeypatch.setattr(module, "fine_tune", count)
    X, y = photos, np.repeat([1, -1], [9, 3])
    grid = {"backbone": [PAIR[:1], PAIR[1:], PAIR]}
    cv = OneClassShuffleSplit(2, shots=4, random_state=0)
    search = GridSearchCV(
        detector(PAIR[0], memory=str(tmp_path)), grid, cv=cv, refit=False, error_score="raise"
    ).fit(X, y)
    assert len(trained) == 4  # two backbones, two splits
    assert len(set(search.cv_results_["mean_test_score"])) > 1
