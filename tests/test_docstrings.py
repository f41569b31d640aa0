"""Docstrings follow numpydoc and have examples."""

import inspect
from operator import attrgetter

import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

import skcoft

PUBLIC = ["COFTDetector", "COFTEmbedder"] + [
    f"{module}.{name}"
    for module in [name for name in skcoft.__all__ if name.islower()]
    for name in getattr(skcoft, module).__all__
]
METHODS = [
    f"{name}.{method}"
    for name in PUBLIC
    for method, function in inspect.getmembers(attrgetter(name)(skcoft), inspect.isroutine)
    if not method.startswith("_") and function.__module__.startswith("skcoft")
]
# extended summary (ES01), example (EX01) and see also (SA01) are optional
IGNORED = {"ES01", "EX01", "SA01", "GL08", "YD01"}


@pytest.mark.parametrize("name", PUBLIC + METHODS)
def test_docstring_follows_numpydoc(name):
    errors = [e for e in validate(f"skcoft.{name}")["errors"] if e[0] not in IGNORED]
    assert not errors, errors


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    assert ">>> " in validate(f"skcoft.{name}")["docstring"]


def test_both_estimators_describe_parameters_in_the_same_words():
    descriptions = [
        {p.name: (p.type, p.desc) for p in ClassDoc(estimator)["Parameters"]}
        for estimator in (skcoft.COFTDetector, skcoft.COFTEmbedder)
    ]
    detector, embedder = descriptions
    assert set(embedder) == set(skcoft.COFTEmbedder().get_params(deep=False))
    assert {name: detector[name] for name in embedder} == embedder
