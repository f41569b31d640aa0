"""The house rules that a machine can hold: one way, small pieces, nobody's private things."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import skcoft

PACKAGE = Path(skcoft.__file__).parent
ROOT = PACKAGE.parent
MODULES = {  # by name, "_join" or "plotting._maps"
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}
FILES = [
    path
    for folder in ("skcoft", "tests", "benchmarks", "examples", "pretraining", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".rst")
    and not {"_build", "auto_examples", "generated"} & set(path.parts)
]


SOURCES = [path for path in FILES if path.suffix == ".py"]


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_file_has_more_than_500_lines(path):
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_function_has_more_than_60_lines(path):
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60
    }
    assert not long


@pytest.mark.parametrize("name", MODULES)
def test_no_private_attribute_is_read_across_classes(name):
    """``x._y`` is read from ``self`` or ``cls``, or in the class that sets it."""
    assert not foreign_reads(MODULES[name])


def foreign_reads(tree, own=frozenset()):
    found = []
    for node in ast.iter_child_nodes(tree):
        inside = own
        if isinstance(node, ast.ClassDef):
            inside = {
                n.attr
                for n in ast.walk(node)
                if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
            }
        if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr):
            itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not itself and node.attr not in own | {"_version"}:  # torch documents that one
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        found += foreign_reads(node, inside)
    return found


def test_a_private_attribute_of_another_class_would_be_found():
    code = "class A:\n def f(self, b):\n  self._x = b._x\n  return b._y.z"
    assert foreign_reads(ast.parse(code)) == ["line 4: b._y"]


def imports(name):
    """Modules of this package that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = name.split(".")[: -node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found.update(".".join([*folder, imported]) for imported in names)
    return found & set(MODULES) - {"__init__"}


def test_imports_have_no_circle():
    graph = {name: imports(name) for name in MODULES if name != "__init__"}
    while graph:
        free = {name for name, needed in graph.items() if not needed & set(graph)}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}


def test_data_flows_one_way():
    """What comes later in the walk is not known to what comes before."""
    order = [
        "_images",
        "_backbone",
        "_support",
        "_encoder",
        "_finetune",
        "_embedder",
        "_parts",
        "_join",
        "_threshold",
        "_detector",
    ]
    for i, name in enumerate(order):
        assert not imports(name) & set(order[i + 1 :]), name


def section(title):
    """Text of a section of CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.rst").read_text()
    return re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-+\n|\Z)", text, re.M | re.S).group(1)


def test_the_walk_from_fit_to_the_threshold_is_short_and_true():
    """Every step of CONTRIBUTING names a function or class of the module it says."""
    steps = re.findall(
        r"^\d+\. ``([\w.]+)`` in ``(\w+)\.py``", section("From fit to offset_"), re.M
    )
    assert 5 <= len(steps) <= 10
    for name, module in steps:
        found = importlib.import_module(f"skcoft.{module}")
        for attribute in name.split("."):
            found = getattr(found, attribute)
        assert callable(found)
    assert steps[0][0] == "COFTDetector.fit" and steps[-1][0] == "automatic_offset"


def test_every_module_has_its_place_in_contributing():
    text = section("Where things are")
    for name in {name for name in MODULES if not name.endswith("__init__")}:
        assert f"{name.replace('.', '/')}.py``" in text, name


def test_recipes_name_what_exists():
    text = section("Adding something")
    assert "tests/test_recipes.py" in text
    for module, name in re.findall(r"``([A-Z]+)`` in ``(\w+)\.py``", text):
        assert hasattr(importlib.import_module(f"skcoft.{name}"), module)
