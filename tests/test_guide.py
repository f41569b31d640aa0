"""The code on every page of the guide, the questions and README: it runs, from top to bottom.

Each page has an empty folder of its own. Its Python blocks share one namespace, and the commands
between them are run where they stand. Only defaults are other ones, for the sake of time: the
embedded backbone, frozen, on few pixels.
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
    """Python to run, as source at its own lines, and commands, in the order of a page."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        language, block = found[1], dedent(found[2])
        if language == "python":
            before = text[: found.start(2)].count("\n")
            yield "python", "\n" * before + block
        elif language in ("bash", None):
            lines = [line.removeprefix("$ ") for line in block.splitlines()]
            yield from (("command", line) for line in lines if line.startswith("skcoft "))


def run_page(page, namespace, elsewhere=()):
    """Run a page; ``elsewhere`` are texts of it and what stands for them on one machine."""
    namespace["__name__"] = "__main__"
    for kind, source in blocks(page):
        if "import mlflow" in source and find_spec("mlflow") is None:
            continue  # it is large, and tests/test_other_libraries.py knows it
        if kind == "python":
            for there, here in elsewhere:
                assert there in page.read_text()
                source = source.replace(there, here)
            exec(compile(source, str(page), "exec"), namespace)  # a fault names its line
        else:
            run_command(source)


def run_command(line):
    _, command, *arguments = shlex.split(line, comments=True)
    quick = ["--iterations", "0", "--max-pixels", "4096"] if command == "fit" else []
    assert _cli.main([command, *arguments, *quick]) == 0, line


def set_defaults(monkeypatch, estimator, **defaults):
    every = {**estimator.__init__.__kwdefaults__, **defaults}
    monkeypatch.setattr(estimator.__init__, "__kwdefaults__", every)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Small defaults, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    for estimator in (COFTDetector, COFTEmbedder):
        set_defaults(monkeypatch, estimator, max_iter=0, max_pixels=64**2)
        monkeypatch.setattr(estimator.__init__, "__defaults__", ("embedded",))
    set_defaults(monkeypatch, LabelFreeScorer, n_draws=1)


@pytest.fixture(scope="session")
def setting():
    """What overviews and the page on many machines take for granted."""
    plates = make_plates(145, 4, size=64, random_state=0)
    images, labels = plates.images, plates.labels
    return {
        "images": images[:8],
        "shots": images[:8],
        "normal": images[8:38],
        "more_normal_images": images[8:107],  # 99, as 1 % needs
        "X": images[127:],
        "y": labels[127:],
    }


def write_photographs(images):
    for i, image in enumerate(images[:12]):
        normal = [f"photos/normal/{i}.png", f"normal/{i}.png"]
        for name in normal if i < 8 else [f"photos/new/{i}.png", f"new_{i - 7}.png"]:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(name)


quietly = pytest.mark.filterwarnings(
    "error::UserWarning:__main__",  # what a page gives rise to
    "ignore:X holds .*duplicate",  # the guide announces these two
    "ignore:.*are unreadable",
)


@quietly
@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_a_page_of_the_guide_runs_as_it_stands(page, quick):
    if page.stem == "deploy":
        pytest.importorskip("onnxruntime")
    run_page(page, {})


@quietly
@pytest.mark.parametrize("page", OVERVIEWS, ids=lambda page: page.stem)
def test_an_overview_runs_on_images_at_hand(page, quick, setting):
    write_photographs(np.concatenate([setting["shots"], setting["normal"][:4]]))
    detector = COFTDetector(random_state=0).fit(setting["shots"])
    run_page(page, {**setting, "COFTDetector": COFTDetector, "detector": detector})


def test_many_machines_are_one_here(quick, setting):
    distributed = pytest.importorskip("distributed")
    write_photographs(setting["images"])
    np.save("images.npy", setting["X"][:4])
    detector = COFTDetector(random_state=0).fit(setting["shots"])
    names = {
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
        here = ('Client("scheduler:8786")', "Client.current()"), ("/mnt/shared", "shared")
        run_page(DASK, names, here)
    assert names["search"].best_score_ > 0.5
    np.testing.assert_allclose(names["scores"], detector.score_samples(setting["X"][:4]))


def test_pages_name_extras_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in [*GUIDE, *OVERVIEWS, DASK]:
        for name in re.findall(r'pip install (?:-e )?"[\w.]+\[(\w+)\]"', page.read_text()):
            assert name in project["optional-dependencies"], f"{page.name}: {name}"


def test_no_python_of_a_page_is_left_out():
    """Blocks after two colons hold commands alone; Python says that it is Python."""
    for page in [*GUIDE, *OVERVIEWS, DASK]:
        text = page.read_text()
        found = BLOCK.findall(text)
        languages = [language for language, _ in found if language]
        assert set(languages) <= {"python", "bash"}
        assert text.count("code-block::") == len(languages), page.name  # none is indented
        for line in "".join(dedent(code) for name, code in found if not name).split("\n"):
            assert re.fullmatch(r"|(\$ )?(pip|pytest|skcoft)( .*)?", line), line
