"""Pickles of networks hold recipes and arrays, and give the same scores."""

import copy
import pickle
import pickletools

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal

from skcoft import COFTDetector
from skcoft._network.module_state import arrays_to_tensors, copy_module, module_arrays

ROWS = np.random.default_rng(0).normal(size=(9, 5))
PARAMS = dict(max_iter=1, random_state=0)
NETWORKS = {
    "timm": {"backbone": "resnet10t", "weights": None},
    "embedded": {"backbone": "embedded"},
    "transformer": {"backbone": "test_vit", "weights": None, "max_pixels": 96 * 64},
    "two": {"backbone": ["resnet10t", "embedded"], "weights": [None, "pretrained"]},
    "tabular": None,
}


@pytest.fixture(params=NETWORKS)
def fitted(request, photos):
    """A detector and the data that it was fitted on."""
    params = NETWORKS[request.param]
    X = ROWS if params is None else photos[:6]
    return COFTDetector(**PARAMS, **(params or {})).fit(X), X


def test_pickles_and_copies_give_identical_scores(fitted):
    detector, X = fitted
    expected = detector.score_samples(X)
    state = torch.get_rng_state()
    for copied in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        assert_array_equal(copied.score_samples(X), expected)
        copied.partial_fit(X[:2][:, ::-1].copy())
    assert_array_equal(detector.score_samples(X), expected)
    assert_array_equal(torch.get_rng_state(), state)


def test_a_pickle_holds_no_class_of_torch_or_timm(fitted):
    """So it can be loaded with other versions of them."""
    operations = pickletools.genops(pickle.dumps(fitted[0]))
    texts = [text for _, text, _ in operations if isinstance(text, str)]
    assert "skcoft._network.encoder" in texts
    assert not [text for text in texts if text.split(".")[0] in ("torch", "timm")]


def test_skops_asks_for_trust_in_our_types_only(fitted):
    sio = pytest.importorskip("skops.io")
    detector, X = fitted
    stored = sio.dumps(detector)
    types = sio.get_untrusted_types(data=stored)
    assert {name.split(".")[0] for name in types} == {"skcoft"}
    loaded = sio.loads(stored, trusted=types)
    assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


def test_a_module_of_the_user_is_pickled_with_its_class(photos):
    detector = COFTDetector(TinyNet(), **PARAMS).fit(photos[:4])
    loaded = pickle.loads(pickle.dumps(detector))
    assert type(loaded.embedder_.network_.body) is TinyNet
    assert_array_equal(loaded.score_samples(photos), detector.score_samples(photos))


def test_state_of_a_newer_version_is_refused(photos):
    network = COFTDetector("resnet10t", weights=None, **PARAMS).fit(photos[:4]).embedder_.network_
    state = network.__getstate__()
    assert state["version"] == 1
    with pytest.raises(ValueError):
        network.__class__.__new__(network.__class__).__setstate__({**state, "version": 2})


def test_arrays_become_writable_tensors_again():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    arrays = module_arrays(module)
    assert set(module_arrays(module, prefix="1.")) == {"0.weight", "0.bias"}
    arrays["0.weight"].setflags(write=False)  # as joblib loads them
    tensors = arrays_to_tensors(arrays)
    for name, value in module.state_dict().items():
        assert torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype
        assert tensors[name].data_ptr() != value.data_ptr()


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_a_module_with_computed_tensors_can_be_copied():
    module = torch.nn.utils.weight_norm(torch.nn.Linear(2, 3))
    copied = copy_module(module)
    batch = torch.ones(1, 2)
    assert torch.equal(copied(batch), module(batch))
    assert copied.weight_g.data_ptr() != module.weight_g.data_ptr()
