"""What is imported when: the package and the command line import heavy packages on first use."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

import skcoft

HEAVY = "torch", "timm", "sklearn", "numpy", "scipy", "PIL", "tqdm", "joblib"


def run_python(code, *arguments):
    """Run code in a fresh interpreter; return the process and the heavy packages it imported."""
    tail = f"\nprint('imported', *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}{tail}", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done, done.stdout.splitlines()[-1].split()[1:]


COMMAND_LINE = """
from skcoft._cli import main
try:
    main(sys.argv[1:])
except SystemExit as stopped:
    print('code', stopped.code)
"""


@pytest.mark.parametrize(
    "command, code, text",
    [
        ("--version", 0, skcoft.__version__),
        ("--help", 0, "usage: skcoft"),
        ("fit --help", 0, "The default is tf_efficientnet_lite2."),
        ("score model", 2, "the following arguments are required: folder"),
        ("scroe model", 2, "invalid choice: 'scroe'"),
        ("", 2, "required: command"),
    ],
)
def test_help_and_typing_errors_import_nothing_heavy(command, code, text):
    done, imported = run_python(COMMAND_LINE, *command.split())
    assert imported == []
    assert f"code {code}" in done.stdout
    assert text in " ".join((done.stdout + done.stderr).split())


def test_import_skcoft_imports_nothing_heavy():
    _, imported = run_python("import skcoft; dir(skcoft); skcoft.__version__")
    assert imported == []


def test_public_names_are_imported_on_first_use():
    done, imported = run_python(
        "import skcoft\n"
        "print(skcoft.datasets.make_plates.__name__, 'skcoft._detector' in sys.modules)\n"
        "print(skcoft.COFTDetector is skcoft._detector.COFTDetector)\n"
        "from skcoft import *\n"
        "print(COFTEmbedder.__name__, report.write_scores.__name__, density.__name__)"
    )
    assert done.stdout.splitlines()[:3] == [
        "make_plates False",
        "True",
        "COFTEmbedder write_scores skcoft.density",
    ]
    assert "torch" in imported


def test_the_package_lists_its_public_names_and_no_others():
    assert {*skcoft.__all__, "__version__"} == set(dir(skcoft))
    with pytest.raises(AttributeError):
        skcoft.COFTDetecter  # noqa: B018


def test_a_fresh_process_finds_classes_of_old_modules():
    """The first name in the pickle is of a module that only 0.1.0 had."""
    done, _ = run_python(
        "import pickle, skcoft\n"
        "print(issubclass(pickle.loads(b'cskcoft._rows\\nUnseen\\n.'), object))\n"
        "try: pickle.loads(b'cskcoft._none\\nUnseen\\n.')\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    assert done.stdout.splitlines()[:2] == ["True", "No module named 'skcoft._none'"]
