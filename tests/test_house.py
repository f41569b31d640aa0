"""Rules of the code that a machine can check: layers, names, sizes, annotations."""

import ast
import importlib
import re
from collections import Counter
from pathlib import Path

import skcoft

PACKAGE = Path(skcoft.__file__).parent
ROOT = PACKAGE.parent
MODULES = {  # by name, such as "_evidence.joint_score" or "plotting"
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text()
    )
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Rooms in the order of the data. A module imports only from its own room and from earlier ones.
ROOMS = [
    "_version",
    "_utils",
    "_input",
    "losses",
    "augmentation",
    "density",
    "_network",
    "_training",
    "_evidence",
    "_parameters",
    "_model",
    "_embedder",
    "_persistence",
    "_export",
    "_detector",
    "datasets",
    "report",
    "plotting",
    "pyod",
    "model_selection",
    "_cli",
    "__init__",
    "__main__",
]


def room(module):
    return module.partition(".")[0]


def imports(name):
    """Modules of this package that a module imports, anywhere in it."""
    is_package = (PACKAGE / name.replace(".", "/")).is_dir()
    package = name.split(".") if is_package else name.split(".")[:-1]
    package = [] if name == "__init__" else package
    modules = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) + 1 - node.level]
            path = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            submodules = {f"{path}.{alias.name}".strip(".") for alias in node.names}
            modules |= submodules & set(MODULES)
            if path in MODULES and not submodules <= set(MODULES):
                modules.add(path)
    return modules - {name}


def test_every_module_has_a_room():
    assert {room(name) for name in MODULES} == set(ROOMS)
    private = [path for path in PACKAGE.iterdir() if re.match(r"_[^_]", path.name)]
    assert len(private) <= 14


def test_rooms_import_earlier_rooms_only():
    for name in MODULES:
        for imported in imports(name):
            order = ROOMS.index(room(imported)), ROOMS.index(room(name))
            assert order[0] <= order[1], f"{name} imports {imported}"


def test_imports_have_no_circle():
    graph = {name: imports(name) for name in MODULES if name != "__init__"}
    while graph:
        free = {name for name, needed in graph.items() if not needed & set(graph)}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def length(node):
    """Number of lines without the docstring."""
    documented = ast.get_docstring(node) is not None
    docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
    return node.end_lineno - node.lineno + 1 - docstring


def test_files_and_functions_are_short():
    """At most 500 lines a file of code, 60 a function, 500 a page; docstrings do not count."""
    for path in code_files() + page_files():
        lines = len(path.read_text().splitlines())
        if path.suffix == ".py":
            tree = ast.parse(path.read_text())
            long = [node.name for node in functions(tree) if length(node) > 60]
            assert not long, (path, long)
            documented = [tree, *ast.walk(tree)]
            kinds = (ast.FunctionDef, ast.ClassDef)
            lines -= sum(
                node.end_lineno - node.lineno + 1 - length(node)
                for node in documented
                if isinstance(node, kinds)
            )
        assert lines <= 500, path


def code_files():
    folders = ("skcoft", "tests", "benchmarks", "examples", "pretraining", "docs")
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not {"_build", "auto_examples", "generated"} & set(path.parts)
    ]


def page_files():
    return [*(ROOT / "docs" / "guide").glob("*.rst"), *ROOT.glob("*.rst")]


def test_functions_are_annotated():
    total = annotated = 0
    for tree in MODULES.values():
        for function in functions(tree):
            arguments = function.args.args + function.args.kwonlyargs
            arguments = [a for a in arguments if a.arg not in ("self", "cls")]
            total += 1
            annotated += function.returns is not None and all(a.annotation for a in arguments)
    assert annotated >= 0.98 * total


def test_classes_are_not_cut_into_mixins():
    names = [n.name for t in MODULES.values() for n in ast.walk(t) if isinstance(n, ast.ClassDef)]
    assert not [name for name in names if name.endswith("Mixin")]


def top_level_names(tree):
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        for target in targets:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def test_a_name_means_one_thing():
    counts = Counter(n for t in MODULES.values() for n in set(top_level_names(t)))
    repeated = [name for name, n in counts.items() if n > 1 and not name.startswith("__")]
    assert len(repeated) <= 5, repeated


def test_names_are_nouns():
    """``seen``, ``found`` and their like do not say what a value is."""
    empty = {"seen", "found", "known", "kept", "drawn"}
    uses = [
        name
        for tree in MODULES.values()
        for node in ast.walk(tree)
        for name in [getattr(node, "id", getattr(node, "arg", None))]
        if name in empty
    ]
    assert len(uses) < 60, Counter(uses)


def test_messages_are_rarely_tested_by_their_prose():
    pattern = "match" + "="
    count = sum(path.read_text().count(pattern) for path in (ROOT / "tests").rglob("*.py"))
    assert count < 140


def foreign_reads(tree, own=frozenset()):
    """Private attributes that are read from other objects than ``self`` or ``cls``."""
    reads = []
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
            # torch documents _version, sys documents _getframe
            if not itself and node.attr not in own | {"_version", "_getframe"}:
                reads.append(f"line {node.lineno}: {ast.unparse(node)}")
        reads += foreign_reads(node, inside)
    return reads


def test_no_private_attribute_is_read_across_classes():
    assert not {name: reads for name in MODULES if (reads := foreign_reads(MODULES[name]))}


def test_a_private_attribute_of_another_class_would_be_found():
    code = "class A:\n def f(self, b):\n  self._x = b._x\n  return b._y.z"
    assert foreign_reads(ast.parse(code)) == ["line 4: b._y"]


# CONTRIBUTING


def section(title):
    """Text of a section of CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.rst").read_text()
    return re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-+\n|\Z)", text, re.M | re.S).group(1)


def steps(title):
    """(function, module) of every step of a walk."""
    pattern = r"^\d+\. ``([\w.]+)`` in ``([\w/]+)\.py``"
    return [(f, m.replace("/", ".")) for f, m in re.findall(pattern, section(title), re.M)]


def check_walk(title, most):
    """Every step names a function of a module, in a room that is not above an earlier one.

    The first two steps are the estimator's method and the model's, which lead through the rooms.
    """
    walk = steps(title)
    assert 4 <= len(walk) <= most
    for name, module in walk:
        value = importlib.import_module(f"skcoft.{module}")
        for attribute in name.split("."):
            value = getattr(value, attribute)
        assert callable(value)
    order = [ROOMS.index(room(module)) for _, module in walk]
    rooms = [place for place in order if ROOMS[place] not in ("_detector", "_model")]
    assert rooms == sorted(rooms)


def test_the_walk_of_fit_is_short_and_goes_one_way():
    check_walk("What fit does", most=10)
    assert steps("What fit does")[0] == ("COFTDetector.fit", "_detector")


def test_the_walk_of_score_samples_is_short_and_goes_one_way():
    check_walk("What score_samples does", most=6)
    assert steps("What score_samples does")[0] == ("COFTDetector.score_samples", "_detector")


def test_every_room_is_described():
    text = section("Where things are")
    for name in ROOMS:
        if not name.startswith("__") and name != "_version":
            assert f"``{name}" in text, name


def test_recipes_name_what_exists():
    text = section("Adding something")
    assert "tests/test_recipes.py" in text
    pairs = re.findall(r"``([A-Z]+)`` in ``([\w/]+)\.py``", text)
    assert len(pairs) >= 3
    for name, module in pairs:
        assert hasattr(importlib.import_module(f"skcoft.{module.replace('/', '.')}"), name)
