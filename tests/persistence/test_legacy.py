"""Pickles of 0.1.0, whose classes had other modules, names and attributes."""

import gzip
import json
import pickle

import numpy as np
import pytest
from model_files import CASES, DATA, measure
from sklearn.base import clone

from skcoft import COFTDetector, COFTEmbedder
from skcoft._persistence.legacy import MODULES, RENAMED


def load_pickle(case):
    """Load a pickle that was written with NumPy 2, which NumPy 1.26.0 cannot read."""
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("the pickles were written with NumPy 2")
    with gzip.open(DATA / f"{case}-0.1.0.pkl.gz") as file:
        return pickle.load(file)


@pytest.mark.parametrize("case", CASES)
def test_a_pickle_of_0_1_0_gives_the_same_results(case):
    expected = json.loads((DATA / "0.1.0.json").read_text())[case]
    results = measure(case, load_pickle(case))
    assert set(results) == set(expected)
    for key, values in expected.items():
        atol = np.diff(np.unique(values)).min() if key == "p-values" else 2e-3
        np.testing.assert_allclose(results[key], values, rtol=2e-4, atol=atol, err_msg=key)


@pytest.mark.parametrize("case", CASES)
def test_a_pickle_of_0_1_0_is_a_detector_of_today(case, tmp_path):
    detector, X = load_pickle(case), CASES[case][1]
    assert detector.prompts is None and detector.embedder_.bit_depth is None
    assert repr(clone(detector)) == repr(detector)
    text = pickle.dumps(detector).decode("latin-1")
    assert not [module for module in MODULES if f"skcoft.{module}\n" in text]
    detector.save(tmp_path / "again.skcoft")
    again = COFTDetector.load(tmp_path / "again.skcoft")
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))


def test_a_threshold_that_was_set_keeps_its_source():
    detector = load_pickle("rows")
    with pytest.warns(UserWarning, match="set_threshold"):
        detector.partial_fit(CASES["rows"][1][:1])


def test_an_offset_that_was_changed_by_hand_is_known_as_such():
    state = load_pickle("rows").__getstate__()
    model = state.pop("_model")
    old = {
        "_joint": model.joint,
        "_seen": model.registry,
        "_promise": None,
        "_set_offset": 1.0,
        "offset_": 2.0,
        "map_threshold_": None,
        "calibration_scores_": model.calibration_scores,
        "density_": None,
        "embeddings_": None,
        "classes_": None,
    }
    detector = COFTDetector()
    detector.__setstate__({**state, **old})
    assert detector.offset_ == 2.0
    with pytest.warns(UserWarning, match="offset_=2"):
        detector.partial_fit(CASES["rows"][1][:1])


@pytest.mark.parametrize("estimator", [COFTDetector(), COFTEmbedder()])
def test_parameters_that_a_state_lacks_get_their_defaults(estimator):
    for name in estimator.get_params():
        state = dict(estimator.__getstate__())
        del state[name]
        restored = type(estimator).__new__(type(estimator))
        restored.__setstate__(state)
        assert restored.get_params() == estimator.get_params()


def test_every_class_of_an_old_module_exists_today():
    for module, names in MODULES.items():
        alias = __import__(f"skcoft.{module}", fromlist=names)
        for name in names:
            assert issubclass(getattr(alias, name), object)
            assert name in RENAMED
    with pytest.raises(AttributeError):
        alias.Nothing  # noqa: B018
