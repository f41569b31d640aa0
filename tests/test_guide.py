"""The code of README, the guide and the questions runs from top to bottom.

Each page runs in a separate empty folder. Its Python blocks share one namespace. The commands
between them run in the order of the page. To save time, the defaults differ: the embedded
backbone, frozen, on few pixels.
"""

import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sklearn.model_selection import GridSearchCV

from skcoft import COFTDetector, COFTEmbedder, _cli
from skcoft.datasets import make_plates
from skcoft.model_selection import LabelFreeScorer, OneClassKFold

GUIDE = sorted(ROOT.glob("docs/guide/*.rst"))
OVERVIEWS = [ROOT / name for name in ("README.rst", "docs/index.rst", "docs/faq.rst")]
DASK = ROOT / "docs/many_machines.rst"
BLOCK = re.compile(r"^(?:\.\. code-block:: (\w+)|(?!\.\.).*::)\n\n((?: +.*\n|\n)+)", re.M)


def blocks(page):
    """Yield the Python blocks and commands of a page, in its order.

    Python source starts with empty lines, so that its line numbers are those of the page.
    """
    text = page.read_text()
    for match in BLOCK.finditer(text):
        language, block = match[1], dedent(match[2])
        if language == "python":
            lines_before = text[: match.start(2)].count("\n")
            yield "python", "\n" * lines_before + block
        elif language in ("bash", None):
            lines = [line.removeprefix("$ ") for line in block.splitlines()]
            yield from (("command", line) for line in lines if line.startswith("skcoft "))


def run_page(page, namespace, replacements=()):
    """Run a page; ``replacements`` are pairs of a text of the page and its replacement."""
    namespace["__name__"] = "__main__"
    for language, source in blocks(page):
        if "import mlflow" in source and find_spec("mlflow") is None:
            continue  # it is large, and tests/test_other_libraries.py covers it
        if language == "python":
            for text, replacement in replacements:
                assert text in page.read_text()
                source = source.replace(text, replacement)
            exec(compile(source, str(page), "exec"), namespace)  # errors name the page and line
        else:
            run_command(source)


def run_command(line):
    _, command, *arguments = shlex.split(line, comments=True)
    quick_options = ["--iterations", "0", "--max-pixels", "4096"] if command == "fit" else []
    assert _cli.main([command, *arguments, *quick_options]) == 0, line


def set_defaults(monkeypatch, estimator, **defaults):
    all_defaults = {**estimator.__init__.__kwdefaults__, **defaults}
    monkeypatch.setattr(estimator.__init__, "__kwdefaults__", all_defaults)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Use defaults that save time, and run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for estimator in (COFTDetector, COFTEmbedder):
        set_defaults(monkeypatch, estimator, max_iter=0, max_pixels=64**2)
        monkeypatch.setattr(estimator.__init__, "__defaults__", ("embedded",))
    set_defaults(monkeypatch, LabelFreeScorer, n_draws=1)


@pytest.fixture(scope="session")
def setting():
    """Variables that the overviews and the page on many machines assume."""
    plates = make_plates(145, 4, size=64, random_state=0)
    images, labels = plates.images, plates.labels
    return {
        "images": images[:8],
        "shots": images[:8],
        "normal": images[8:38],
        "more_normal_images": images[8:107],  # max_fpr=0.01 needs 99
        "X": images[127:],
        "y": labels[127:],
    }


def write_photographs(images):
    for i, image in enumerate(images[:12]):
        normal = [f"photos/normal/{i}.png", f"normal/{i}.png"]
        new = [f"photos/new/{i}.png", f"new_{i - 7}.png"]
        for name in normal if i < 8 else new:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(name)


no_warnings = pytest.mark.filterwarnings(
    "error::UserWarning:__main__",  # warnings that the code of a page causes
    "ignore:X holds .*duplicate",  # the guide announces these
    "ignore:X holds a training image far less normal",
    "ignore:.* score far below the others",
    "ignore:.*are unreadable",
)


@no_warnings
@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_page_of_the_guide_runs_unchanged(page, quick):
    if page.stem == "deploy":
        pytest.importorskip("onnxruntime")
    run_page(page, {})


@no_warnings
@pytest.mark.parametrize("page", OVERVIEWS, ids=lambda page: page.stem)
def test_overview_runs_on_prepared_images(page, quick, setting):
    write_photographs(np.concatenate([setting["shots"], setting["normal"][:4]]))
    detector = COFTDetector(random_state=0).fit(setting["shots"])
    run_page(page, {**setting, "COFTDetector": COFTDetector, "detector": detector})


def test_page_on_many_machines_runs_on_one(quick, setting):
    distributed = pytest.importorskip("distributed")
    write_photographs(setting["images"])
    np.save("images.npy", setting["X"][:4])
    detector = COFTDetector(random_state=0).fit(setting["shots"])
    namespace = {
        **setting,
        "np": np,
        "COFTDetector": COFTDetector,
        "GridSearchCV": GridSearchCV,
        "OneClassKFold": OneClassKFold,
        "grid": {"density": ["gaussian"]},
        "paths": sorted(map(str, Path("photos").rglob("*.png"))),
        "detector": detector,
    }
    client = distributed.Client(processes=False, n_workers=1, dashboard_address=None)
    with client, client.cluster:
        replacements = ('Client("scheduler:8786")', "Client.current()"), ("/mnt/shared", "shared")
        run_page(DASK, namespace, replacements)
    assert namespace["search"].best_score_ > 0.5
    np.testing.assert_allclose(namespace["scores"], detector.score_samples(setting["X"][:4]))


def test_extras_on_pages_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in [*GUIDE, *OVERVIEWS, DASK]:
        for name in re.findall(r'pip install (?:-e )?"[\w.]+\[(\w+)\]"', page.read_text()):
            assert name in project["optional-dependencies"], f"{page.name}: {name}"


def test_no_python_block_is_skipped():
    """Blocks after two colons contain only commands; Python blocks are marked as Python."""
    for page in [*GUIDE, *OVERVIEWS, DASK]:
        text = page.read_text()
        page_blocks = BLOCK.findall(text)
        languages = [language for language, _ in page_blocks if language]
        assert set(languages) <= {"python", "bash"}
        assert text.count("code-block::") == len(languages), page.name  # no block is indented
        commands = "".join(dedent(block) for language, block in page_blocks if not language)
        for line in commands.split("\n"):
            assert re.fullmatch(r"|(\$ )?(pip|pytest|skcoft)( .*)?", line), line
