"""Pickles of earlier versions, whose classes had other modules, names and attributes."""

import gzip
import json
import pickle
import subprocess
import sys
import warnings
from copy import deepcopy

import cloudpickle
import joblib
import numpy as np
import pytest
from model_files import CASES, DATA, RELEASE, ROWS, measure
from old_pickles import outputs
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning

from skcoft import COFTDetector, COFTEmbedder, __version__
from skcoft._persistence.legacy import MODULES, RENAMED
from skcoft._utils import estimator_state
from skcoft._utils.estimator_state import VERSION_KEY, SkcoftVersionWarning
from skcoft.density import GaussianDensity, KernelDensity

PICKLES = list(DATA.glob("estimators-*.pkl.gz"))


def needs_numpy_2():
    """Skip a test of pickles with NumPy 1.26.0, which cannot read what NumPy 2 wrote."""
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("the pickles were written with NumPy 2")


def load_pickle(case):
    """Load a pickle of 0.1.0, which warns of the version."""
    needs_numpy_2()
    with gzip.open(DATA / f"{case}-0.1.0.pkl.gz") as file:
        with pytest.warns(InconsistentVersionWarning, match="skcoft 0.1.0 "):
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


@pytest.mark.parametrize(
    "estimator", [COFTDetector(), COFTEmbedder(), KernelDensity(), GaussianDensity()], ids=str
)
def test_parameters_that_a_state_lacks_get_their_defaults(estimator):
    for name in estimator.get_params():
        state = {key: value for key, value in estimator.__getstate__().items() if key != name}
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


# Pickles of every estimator, which tests/old_pickles.py wrote

RELEASES = sorted(file.name.split("-")[1].removesuffix(".pkl.gz") for file in PICKLES)


def load_all(release):
    """Return the estimators of a release by name, the warnings of loading them, and results."""
    needs_numpy_2()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gzip.open(DATA / f"estimators-{release}.pkl.gz") as file:
            estimators = pickle.load(file)
    expected = json.loads((DATA / f"estimators-{release}.json").read_text())
    return (
        estimators,
        [w for w in caught if issubclass(w.category, SkcoftVersionWarning)],
        expected,
    )


def test_pickles_of_every_version_are_there():
    assert RELEASES[0] == "0.1.0" and RELEASE in RELEASES


@pytest.mark.parametrize("release", RELEASES)
def test_every_estimator_of_a_pickle_is_one_of_today(release):
    estimators, _, expected = load_all(release)
    assert set(expected) == set(estimators) - {"scorer", "folds"}
    for name, values in expected.items():
        np.testing.assert_allclose(outputs(estimators[name]), values, rtol=2e-4, atol=2e-3)
    for name, estimator in estimators.items():
        if name != "folds":
            assert repr(clone(estimator)) == repr(estimator)
    assert estimators["folds"].get_n_splits(ROWS) == 4
    assert estimators["detector"].partial_fit(ROWS[8:9]).predict(ROWS).shape == (14,)
    assert estimators["kernel"].fit(ROWS).covariance_type == "spherical"
    refitted = outputs(estimators["pipeline"].fit(ROWS[:8]))
    np.testing.assert_allclose(refitted, expected["pipeline"], rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("release", RELEASES)
def test_a_warning_names_both_versions(release):
    """One for each class; there is none if both are the same."""
    _, warned, _ = load_all(release)
    if release == "0.1.0":
        names = {w.message.estimator_name for w in warned}
        assert names == {
            *("COFTDetector", "COFTEmbedder", "KernelDensity", "GaussianDensity"),
            *("PyODDetector", "LabelFreeScorer"),
        }
    for warning in warned:
        assert release in str(warning.message) and __version__ in str(warning.message)
        assert issubclass(warning.category, InconsistentVersionWarning)
        assert warning.filename == __file__
    detector = COFTDetector(max_iter=0).fit(ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = pickle.loads(pickle.dumps(deepcopy(clone(detector).fit(ROWS))))
        cloudpickle.loads(cloudpickle.dumps(again))
    assert VERSION_KEY not in vars(again)


@pytest.mark.parametrize("release", RELEASES)
def test_a_pipeline_of_joblib_loads(release):
    needs_numpy_2()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        pipeline = joblib.load(DATA / f"pipeline-{release}.joblib.gz")
    expected = json.loads((DATA / f"estimators-{release}.json").read_text())["pipeline"]
    np.testing.assert_allclose(outputs(pipeline), expected, rtol=2e-4, atol=2e-3)


def test_an_old_pickle_loads_in_a_process_that_imported_nothing():
    """The first class in it is that of the embedder, which imports little of the package."""
    needs_numpy_2()
    code = "import gzip, pickle, sys; print(*pickle.load(gzip.open(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(DATA / "estimators-0.1.0.pkl.gz")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parents[1], check=True)
    assert "embedder" in run.stdout and "0.1.0" in run.stderr and __version__ in run.stderr


def test_a_later_version_warns_as_well(monkeypatch):
    content = pickle.dumps(KernelDensity())
    monkeypatch.setattr(estimator_state, "__version__", "9.0")
    with pytest.warns(InconsistentVersionWarning, match=f"skcoft {__version__} .* skcoft 9.0"):
        pickle.loads(content)
