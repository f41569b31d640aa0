"""Names, defaults and files in README and docs exist; test_guide.py runs the code."""

import ast
import inspect
import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from textwrap import dedent

import pytest

import skcoft
from skcoft import COFTDetector

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.rst",
    ROOT / "CONTRIBUTING.rst",
    ROOT / "pretraining/README.rst",
    *sorted(ROOT.glob("docs/*.rst")),
    *sorted(ROOT.glob("docs/guide/*.rst")),
]
MODULES = [skcoft, *(getattr(skcoft, name) for name in skcoft.__all__ if name.islower())]
PUBLIC = {n: getattr(m, n) for m in MODULES for n in m.__all__ if not n.islower()}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page):
    sources = re.findall(r"code-block:: python\n\n((?: +.*\n|\n)+)", page.read_text())
    return [ast.parse(dedent(source)) for source in sources]


def literals(page):
    return [" ".join(text.split()) for text in re.findall(r"``([^`]+)``", page.read_text())]


def expressions(page):
    """Yield the code blocks of a page, and its literals that are Python."""
    for text in literals(page):
        try:
            yield ast.parse(text)
        except SyntaxError:
            pass
    yield from blocks(page)


@every_page
def test_names_and_parameters_exist(page):
    for node in (node for tree in expressions(page) for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("skcoft"):
            for alias in node.names:
                assert hasattr(import_module(node.module), alias.name), ast.unparse(node)
        elif isinstance(node, ast.Attribute):
            path = ast.unparse(node)
            if path.startswith("skcoft."):
                attrgetter(path.removeprefix("skcoft."))(skcoft)
            elif path.startswith("detector.") and path.count(".") == 1:
                documented = f"\n    {node.attr} : " in COFTDetector.__doc__
                assert documented or hasattr(COFTDetector, node.attr), path
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in PUBLIC:
            arguments = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(PUBLIC[ast.unparse(node.func)]).bind_partial(**arguments)


@every_page
def test_files_exist(page):
    text = page.read_text()
    pattern = r"``((?:benchmarks|docs|examples|pretraining|skcoft|tests)/[\w./]*)``"
    for name in re.findall(pattern, text):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"<([\w./]+\.rst)>`_", text):
        assert (page.parent / link).exists(), link


def test_readme_shows_every_parameter_with_its_default():
    call = max(
        (n for tree in blocks(ROOT / "README.rst") for n in ast.walk(tree)),
        key=lambda node: len(getattr(node, "keywords", ())),
    )
    parameters = inspect.signature(COFTDetector).parameters
    assert {k.arg: ast.literal_eval(k.value) for k in call.keywords} == {
        name: parameter.default for name, parameter in parameters.items()
    }


def test_api_lists_every_public_name():
    listed = re.findall(r"^    ([\w.]+)$", (ROOT / "docs/api.rst").read_text(), re.M)
    public = [n for n in skcoft.__all__ if not n.islower()]
    public += [f"{m.__name__.removeprefix('skcoft.')}.{n}" for m in MODULES[1:] for n in m.__all__]
    assert sorted(listed) == sorted(public)
