"""A region of interest: what is outside of the mask has no influence, what is inside is found."""

import pickle

import numpy as np
import pytest
import torch
from conftest import TinyNet
from golden import stripes
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.images import Images, resize
from skcoft._input.mask import (
    at_size,
    fill_outside,
    hide_outside,
    is_mask,
    nearest_inside,
    patches_inside,
    pixels_inside,
)
from skcoft._network.encoder import match_inputs
from skcoft.model_selection import OneClassKFold
from skcoft.report import write_maps
from skcoft.report._images import overlay

MASK = np.zeros((32, 40), dtype=bool)
MASK[4:, :28] = True
FROZEN = {"max_iter": 0, "random_state": 0}


def with_clock(images, seed):
    """The same images, each with another caption and clock outside of the mask."""
    images = np.repeat(images[..., None], 3, axis=-1)
    noise = np.random.default_rng(seed).integers(0, 256, images.shape, dtype=np.uint8)
    return np.where(MASK[..., None], images, noise)


SHOTS = with_clock(stripes(6, seed=0), seed=0)
CALM = stripes(3, seed=1)
SPOTTED = CALM.copy()
SPOTTED[:, 12:20, 8:18] = 10


@pytest.fixture(scope="module")
def masked():
    """A detector that looks inside alone, for reading only."""
    return COFTDetector(TinyNet(), mask=MASK, **FROZEN).fit(SHOTS)


def outputs(detector, X):
    names = "score_samples", "decision_function", "predict", "predict_pvalue", "embed"
    found = {name: getattr(detector, name)(X) for name in names}
    return found | {"maps": detector.anomaly_map(X), "neighbors": detector.kneighbors(X)[0]}


def assert_same(found, expected):
    for name in expected:
        assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize(
    "params",
    [{}, {"image_size": (48, 64)}, {"image_size": 24, "max_iter": 2}, {"backbone": "embedded"}],
    ids=["own shape", "enlarged", "reduced, trained", "two scales"],
)
def test_what_is_outside_has_no_influence_to_the_bit(params):
    """Not in what is scored and not in the shots."""
    settings = {"backbone": TinyNet(), **FROZEN, **params}
    fitted = COFTDetector(**settings, mask=MASK).fit(SHOTS)
    X, other = with_clock(SPOTTED, seed=2), with_clock(SPOTTED, seed=3)
    assert_same(outputs(fitted, other), outputs(fitted, X))
    again = COFTDetector(**settings, mask=MASK).fit(with_clock(stripes(6, seed=0), seed=9))
    assert_same(outputs(again, X), outputs(fitted, X))
    assert again.offset_ == fitted.offset_ and again.map_threshold_ == fitted.map_threshold_
    seeing = COFTDetector(**settings).fit(SHOTS)
    assert (seeing.score_samples(X) != seeing.score_samples(other)).all()


def test_defects_inside_are_found_and_those_outside_are_not(masked):
    calm, spotted = with_clock(CALM, seed=2), with_clock(SPOTTED, seed=3)
    assert masked.score_samples(calm).min() > masked.score_samples(spotted).max()
    assert masked.predict(calm).tolist() == [1] * 3
    assert masked.predict(spotted).tolist() == [-1] * 3
    assert masked.find_regions(calm) == [[]] * 3
    for (region, *_), drawn in zip(
        masked.find_regions(spotted), masked.anomaly_map(spotted), strict=True
    ):
        top, left, bottom, right = region.box
        assert top < 20 and bottom > 12 and left < 18 and right > 8
        assert_array_equal(np.isnan(drawn), ~MASK)


def test_a_mask_that_is_true_all_over_changes_nothing():
    X = with_clock(SPOTTED, seed=2)
    whole = COFTDetector(TinyNet(), **FROZEN).fit(SHOTS)
    same = COFTDetector(TinyNet(), mask=np.ones((16, 20)), **FROZEN).fit(SHOTS)
    assert_same(outputs(same, X), outputs(whole, X))
    assert same.offset_ == whole.offset_ and same.map_threshold_ == whole.map_threshold_


def test_the_mask_may_have_any_size_and_type(masked):
    X = with_clock(SPOTTED, seed=2)
    for mask in (
        MASK.astype(int),
        MASK.astype(float).tolist(),
        MASK.repeat(3, 0).repeat(3, 1),
        MASK[2::4, 2::4],  # its edges are multiples of 4
    ):
        other = COFTDetector(TinyNet(), mask=mask, **FROZEN).fit(SHOTS)
        assert_same(outputs(other, X), outputs(masked, X))


def test_images_of_other_sizes_are_masked_alike(masked):
    large = [with_clock(SPOTTED, seed).repeat(2, 1).repeat(2, 2)[0] for seed in (2, 3)]
    scores = masked.score_samples([*map(Image.fromarray, large), SHOTS[0]])
    assert scores[0] == scores[1] < masked.offset_ < scores[2]
    shot = Image.fromarray(large[0])
    drawn = masked.anomaly_map([shot, SHOTS[0]])
    assert_array_equal(np.isnan(drawn[0]), ~MASK.repeat(2, 0).repeat(2, 1))
    transposed = COFTDetector(TinyNet(), mask=MASK.T, **FROZEN)
    turned = [shot, np.rot90(SHOTS[0])]
    for method, X, i in ((transposed.fit, SHOTS, 0), (masked.score_samples, turned, 1)):
        with pytest.raises(ValueError, match=rf"^mask.* X\[{i}\]"):
            method(X)
    assert not hasattr(transposed, "embedder_")
    lenient = clone(masked).set_params(on_error="nan").fit(SHOTS)
    with pytest.warns(UserWarning):
        found = lenient.score_samples([shot, Image.fromarray(np.rot90(SHOTS[0]))])
    assert np.isnan(found).tolist() == [False, True]


def test_copies_are_those_inside():
    clocks = with_clock(np.repeat(stripes(1, seed=0), 2, axis=0), seed=1)
    X = np.concatenate([SHOTS[1:], clocks])
    with pytest.warns(UserWarning):
        fitted = COFTDetector(TinyNet(), mask=MASK, augmentation={"flip": 0}, **FROZEN).fit(X)
    assert fitted.shot_ids_.tolist() == [0, 1, 2, 3, 4, 5, 5]


def test_mirror_images_are_looked_at_where_their_inside_is(masked):
    """Densities know the shots' mirror images by the positions of the mirrored mask."""
    plain = Images(torch.from_numpy(SHOTS[..., ::-1].copy()).permute(0, 3, 1, 2))
    encoder = masked.embedder_.encoders_[0]
    options = {"n_views": 0, "mirror": True, "with_patches": True}
    support = encoder.embed_shots(plain.masked(MASK), **options)
    count = patches_inside(MASK, (8, 10)).sum()
    assert {row.shape for row in support.patches} == {(1, count, 16)}
    flipped = match_inputs([encoder], plain).loader(encoder.sizing, "cpu")(torch.arange(6)).flip(3)
    whole = encoder.network.features_and_patches(flipped)[1].detach().numpy()
    chosen = patches_inside(MASK[:, ::-1].copy(), (8, 10))
    assert_allclose(support.patches[6][0], whole[0][chosen], rtol=1e-5)


def test_more_shots_and_a_parameter_that_is_changed_later(masked):
    """The mask of fit holds until the next fit."""
    X, more = with_clock(SPOTTED, seed=2), stripes(2, seed=5)
    fitted = [clone(masked).fit(SHOTS).partial_fit(with_clock(more, seed=s)) for s in (1, 2)]
    assert_same(outputs(fitted[0], X), outputs(fitted[1], X))
    before = outputs(fitted[0], X)
    fitted[0].set_params(mask=None)
    assert_same(outputs(fitted[0], X), before)


def test_files_pickles_and_memory_keep_it(tmp_path):
    X = with_clock(SPOTTED, seed=2)
    options = {"image_size": 64, "memory": str(tmp_path / "memory"), **FROZEN}
    fitted = COFTDetector("embedded", mask=MASK, **options).fit(SHOTS)
    expected = outputs(fitted, X)
    fitted.save(tmp_path / "m.skcoft")
    loaded = COFTDetector.load(tmp_path / "m.skcoft")
    assert_array_equal(loaded.mask, MASK)
    assert_same(outputs(loaded, X), expected)
    assert_same(outputs(pickle.loads(pickle.dumps(fitted)), X), expected)
    assert_same(outputs(COFTDetector("embedded", mask=MASK, **options).fit(SHOTS), X), expected)
    other = COFTDetector("embedded", **options).fit(SHOTS)
    assert (other.score_samples(X) != expected["score_samples"]).all()


def test_a_search_over_masks():
    X, y = np.concatenate([SHOTS, with_clock(SPOTTED, seed=2)]), [1] * 6 + [-1] * 3
    search = GridSearchCV(
        COFTDetector(TinyNet(), **FROZEN), {"mask": [None, MASK]}, cv=OneClassKFold(2)
    ).fit(X, y)
    assert search.best_params_["mask"] is MASK and search.best_score_ == 1


def test_the_embedder_knows_it_too():
    embedder = COFTEmbedder(TinyNet(), mask=MASK, max_iter=2, random_state=0).fit(SHOTS)
    found = [embedder.transform(with_clock(SPOTTED, seed=seed)) for seed in (1, 2)]
    assert_array_equal(*found)


def test_labelled_anomalies_are_masked_as_shots_are():
    def fit(seed):
        X = np.concatenate([SHOTS, with_clock(SPOTTED, seed)])
        detector = COFTDetector(
            TinyNet(), mask=MASK, max_iter=2, negatives="labelled", negative_weight=1
        ).set_params(random_state=0, learning_rate=0.01)
        return detector.fit(X, [1] * 6 + [-1] * 3)

    assert_array_equal(fit(1).score_samples(SHOTS), fit(2).score_samples(SHOTS))


BAD = {
    "all False": np.zeros((4, 5)),
    "one dimension": [True, False],
    "three dimensions": np.ones((4, 5, 1)),
    "other values": 255 * MASK,
    "NaN": np.where(MASK, 1, np.nan),
    "text": "mask.png",
    "ragged": [[1, 0], [1]],
    "empty": np.ones((0, 3)),
}


@pytest.mark.parametrize("mask", BAD.values(), ids=BAD)
def test_what_is_no_mask_is_refused_before_anything_is_done(mask):
    for estimator in (COFTDetector(mask=mask), COFTEmbedder(mask=mask)):
        with pytest.raises(ValueError, match="'mask'"):
            estimator.fit(SHOTS)
        assert not hasattr(estimator, "embedder_")


def test_rows_have_none(digits):
    rows = digits[0].reshape(-1, 64)[:6]
    mask = np.ones((8, 8))
    flat = COFTDetector(TinyNet(), mask=mask, image_shape=(8, 8), **FROZEN).fit(rows)
    whole = COFTDetector(TinyNet(), image_shape=(8, 8), **FROZEN).fit(rows)
    assert_array_equal(flat.score_samples(rows), whole.score_samples(rows))


def test_users_arrays_stay_as_they_were():
    X, mask = SHOTS.transpose(0, 3, 1, 2) / np.float32(255), MASK.astype(int)
    before = X.copy(), mask.copy()
    tensors = [torch.from_numpy(x) for x in X]
    COFTDetector(TinyNet(), mask=mask, **FROZEN).fit(tensors).score_samples(tensors[:1])
    assert_array_equal(X, before[0])
    assert_array_equal(mask, before[1])


def test_maps_in_files_and_reports_are_dark_outside(masked, tmp_path):
    X = with_clock(SPOTTED, seed=2)
    write_maps(masked, X[:1], tmp_path, ["a.png"])
    with Image.open(tmp_path / "a.png") as file:
        gray = np.asarray(file)
    assert (gray[~MASK] == 0).all() and gray[MASK].max() > 100
    photo = np.full((32, 40, 3), 0.5)
    shown = overlay(photo, masked.anomaly_map(X[:1])[0])
    assert np.isfinite(shown).all()
    assert_allclose(shown[:3, 30:], 0.4)  # gray, no colour


def test_a_display_leaves_the_outside_empty(masked):
    pytest.importorskip("matplotlib").use("agg")
    from skcoft.plotting import AnomalyMapDisplay

    X = with_clock(SPOTTED, seed=2)
    display = AnomalyMapDisplay.from_estimator(masked, X, threshold="auto")
    for drawn in display.map_images_:
        assert_array_equal(np.ma.getmaskarray(drawn.get_array()), ~MASK)
    assert display.map_images_[0].get_clim()[1] == max(6, np.nanmax(masked.anomaly_map(X)))
    assert None not in display.contours_
    with pytest.raises(ValueError):
        AnomalyMapDisplay.from_predictions(X[:1], np.full((1, 32, 40), np.inf))


@pytest.mark.parametrize("image_size", [None, (48, 64)])
def test_onnx(image_size, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    fitted = COFTDetector(TinyNet(), mask=MASK, image_size=image_size, **FROZEN).fit(SHOTS)
    fitted.to_onnx(tmp_path / "m.onnx", SHOTS)
    session = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    found = []
    for seed in (2, 3):
        X = with_clock(SPOTTED, seed)
        pixels = X.transpose(0, 3, 1, 2).astype(np.float32) / 255
        found.append(session.run(None, {"images": pixels}))
        unit = fitted.calibration_scores_.std()
        assert_allclose(found[-1][0], fitted.score_samples(X), atol=1e-3 * unit, rtol=1e-6)
        assert_allclose(found[-1][3], fitted.anomaly_map(X), atol=1e-3)
    assert_array_equal(found[0][0], found[1][0])


def test_masks_are_brought_to_sizes_and_grids():
    mask = np.array([[1, 0], [1, 1]], dtype=bool)
    assert at_size(mask, (4, 2)).tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
    assert at_size(mask, (1, 2)).tolist() == [[1, 1]]  # the middle belongs to what follows
    assert patches_inside(mask, (1, 2)).tolist() == [[1, 1]]  # by half
    assert patches_inside(mask, (4, 2)).tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
    small = np.zeros((8, 8), dtype=bool)
    small[6, 1] = True
    assert patches_inside(small, (2, 2)).tolist() == [[0, 0], [1, 0]]  # the most that there is


def test_pixels_inside_are_those_that_nothing_outside_has_a_part_in():
    mask = np.ones((12, 12), dtype=bool)
    mask[:, 6:] = False
    inside = pixels_inside(mask, (12, 12), (6, 6), resize).numpy()
    image = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    other = torch.where(torch.from_numpy(mask), image, 1 - image)
    same = (resize(image, (6, 6)) == resize(other, (6, 6))).all(dim=1)[0].numpy()
    assert_array_equal(inside, same)
    assert inside.sum() == 6 * 2
    thin = np.zeros((12, 12), dtype=bool)
    thin[:, 5] = True  # each pixel of the small image sees something outside
    assert pixels_inside(thin, (12, 12), (6, 6), resize).numpy().any()
    assert pixels_inside(mask, (12, 12), (12, 12), resize).numpy().tolist() == mask.tolist()


def test_filling_with_the_mean_colour():
    image = torch.tensor([[[0.2, 0.4, 0.9]], [[0.0, 1.0, 0.9]], [[0.5, 0.5, 0.9]]])
    filled = fill_outside(image, torch.tensor([[True, True, False]]))
    assert_allclose(filled[:, 0, 2], [0.3, 0.5, 0.5])
    assert_array_equal(filled[:, :, :2], image[:, :, :2])


def test_outside_the_nearest_inside_counts():
    inside = np.array([[0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    assert nearest_inside(inside).tolist() == [[0, 0, 0, 1], [0, 0, 1, 1]]
    drawn = hide_outside(np.ones((2, 4)), inside)
    assert_array_equal(np.isnan(drawn), ~inside)
    same = np.ones((2, 4))
    assert hide_outside(same, None) is same
    assert is_mask(inside) and not is_mask(~np.ones((2, 2), dtype=bool))
