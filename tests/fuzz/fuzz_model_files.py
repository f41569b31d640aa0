"""Load model files that were changed at random: a ValueError, or a detector that scores.

``PYTHONPATH=. python tests/fuzz/fuzz_model_files.py --seconds 600 --seed 0`` changes arrays, JSON,
metadata and bytes of files of images and rows, and makes the checksum right again. Loading must
raise a ValueError that names the path, or return a detector whose scores are finite or that says
in a ValueError why they are not. No code of a file may run. A failure prints how to repeat it.
"""

import argparse
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests, which has a file of this name

from golden import ROWS, stripes
from model_files import forge

from skcoft import COFTDetector
from skcoft._persistence import model_file
from skcoft.density import KernelDensity

FORBIDDEN = ("pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "exec")
NUMBERS = [0, 1, -1, 2.5, -0.0, 1e-320, 1e300, 10**9, 10**400, float("nan"), float("inf"), True]
OTHERS = [None, "", "x", "\ud800", "../../etc", [], [[]], {}, {"x": 1}, {"a": 1, "b": 2}]
NODES = [
    *({"object": i} for i in (0, 1, 3, -1, 10**6)),
    *({"tuple": value} for value in ([], [1, 2], None, 3)),
    *({"dict": value} for value in ([], [[1, 2]], [["a"]], [[[], 1]], 7)),
    *({"number": value} for value in (["float64", 1], ["float16", 1e9], ["int8", 999], ["x", 1])),
    {"names": ["a", 1]},
    {"device": "cuda:7"},
    {"device": "nonsense"},
    {"random_state": {"dict": []}},
    {"pickle": "gASV"},
]


def base_files(folder):
    """Return (content, queries) of model files of several kinds."""
    tiles, path = stripes(8, seed=0), folder / "base.skcoft"
    images = {"backbone": "test_efficientnet", "weights": None, "max_pixels": 1024, "max_iter": 0}
    mask = np.zeros((32, 40), bool)
    mask[4:28, 4:36] = True
    cases = [
        ({"max_iter": 0, "n_views": 1}, ROWS),
        ({"max_iter": 1, "density": ["gaussian", KernelDensity("loo")]}, ROWS),
        (images, tiles),
        ({**images, "mask": mask, "density": "gaussian", "image_size": 32}, tiles),
    ]
    for params, X in cases:
        COFTDetector(random_state=np.random.RandomState(0), **params).fit(X[:5]).save(path)
        yield path.read_bytes(), X[5:8]


def places(node, place=()):
    """Return the places of all nodes of a JSON tree, as tuples of keys."""
    children = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, child in children:
        found.append((*place, key))
        if isinstance(child, (dict, list)):
            found += places(child, (*place, key))
    return found


def parent_of(model, place):
    for key in place[:-1]:
        model = model[key]
    return model


def change_json(rng):
    """Return a change of the JSON of a model file."""
    kind = rng.choice(["value", "delete", "swap", "class", "nest", "text"], p=[0.6, *[0.08] * 5])

    def change(model):
        everywhere = places(model)
        place, other = (everywhere[i] for i in rng.integers(len(everywhere), size=2))
        parent = parent_of(model, place)
        if kind == "delete":
            del parent[place[-1]]
        elif kind == "swap":
            parent[place[-1]] = parent_of(model, other)[other[-1]]
        elif kind == "class":
            classes = [node["class"] for node in model["objects"]]
            names = [*classes, "type", "os.system", "COFTDetector"]
            model["objects"][rng.integers(len(classes))]["class"] = str(rng.choice(names))
        elif kind == "nest":
            parent[place[-1]] = "DEEP"
            depth = int(rng.choice([50, 2000, 10**5]))
            return json.dumps(model).replace('"DEEP"', "[" * depth + "]" * depth)
        elif kind == "text":
            text = json.dumps(model)
            cut = int(rng.integers(len(text)))
            return text[:cut] + str(rng.choice(['"', "{", "}", "0", ""])) + text[cut + 1 :]
        else:
            values = [*NUMBERS, *OTHERS, *NODES]
            parent[place[-1]] = values[rng.integers(len(values))]
        return None

    return change


def change_array(array, rng):
    """Return another array for one of a model file."""
    kind = rng.integers(9)
    array = np.array(array)
    if kind == 0:
        return None
    if kind == 1:
        return array.astype(
            rng.choice(["float16", "float32", "float64", "int64", "bool", "uint8"])
        )
    if kind == 2:
        return array.reshape(-1) if rng.integers(2) else array[None]
    if kind == 3:
        return array[: len(array) // 2] if array.ndim else array[None]
    if kind == 4:
        return array.T
    if kind == 5:
        return np.zeros_like(array)
    if kind == 6:
        return -array if array.dtype.kind in "fi" else ~array
    values = [np.nan, np.inf, -np.inf, 1e38, 1e300, -1, 0, 10**6]
    value = values[rng.integers(len(values))]
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f" or np.isfinite(value):
            array[... if kind == 7 else rng.random(array.shape) < 0.1] = np.float64(value).astype(
                array.dtype
            )
    return array


def change_metadata(rng):
    """Return other metadata."""
    key = str(rng.choice(["format", "format_version", "versions", "model"]))
    values = ["", "0", "-1", "1", "3", "4.0", "99", "{}", "null", "[1]", "\u0663", "x" * 10**5]
    return {key: values[rng.integers(len(values))]}


def write_case(content, path, rng):
    """Write a changed file; return the kind of change."""
    kind = str(rng.choice(["json", "array", "metadata", "bytes"], p=[0.5, 0.35, 0.07, 0.08]))
    if kind == "bytes":
        changed = bytearray(content[: int(rng.integers(len(content)))])
        if rng.integers(2):
            changed = bytearray(content)
            for i in rng.integers(len(content) // 20, size=3):
                changed[i] = int(rng.integers(256))
        path.write_bytes(changed)
        return kind
    path.write_bytes(content)
    arrays = model_file.read(path)[1]
    if kind == "array":
        name = str(rng.choice(sorted(arrays)))
        forge(content, path, arrays={name: change_array(arrays[name], rng)})
    elif kind == "metadata":
        forge(content, path, metadata=change_metadata(rng))
    else:
        forge(content, path, change_json(rng))
    return kind


def outcome_of(path, X):
    """Load a file and score: "refused", "scores" or "says why not"; AssertionError otherwise."""
    try:
        detector = COFTDetector.load(path)
    except ValueError as error:
        assert path.name in str(error), f"the message does not name the path: {error}"
        return "refused"
    try:
        scores = detector.score_samples(X)
    except ValueError as error:
        assert len(str(error)) > 20
        return f"says why not: {str(error)[:70]}"
    assert np.isfinite(scores).all(), f"scores are {scores}"
    detector.predict(X)
    return "scores"


def run(seconds, seed, first=0, count=None):
    """Run cases; return (outcomes by kind of change, failures)."""
    outcomes, failures, events = Counter(), [], []
    sys.addaudithook(lambda event, args: event in FORBIDDEN and events.append(event))
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = list(base_files(Path(folder)))
        for content, X in files:  # imports happen here
            (path := Path(folder, "changed.skcoft")).write_bytes(content)
            assert outcome_of(path, X) == "scores"
        case, end = first, time.monotonic() + seconds
        while time.monotonic() < end and (count is None or case < first + count):
            rng = np.random.default_rng([seed, case])
            content, X = files[case % len(files)]
            events.clear()
            try:
                kind = write_case(content, path, rng)
            except (RecursionError, UnicodeEncodeError, ValueError):
                kind = "not written"  # by json or safetensors
                path.write_bytes(content)
            began = time.monotonic()
            try:
                outcome = outcome_of(path, X)
                assert not events, f"the file ran {events}"
                assert time.monotonic() - began < 30, "loading took longer than 30 seconds"
            except Exception as error:
                outcome = "FAILED"
                failures.append((case, kind, repr(error)[:300]))
                traceback.print_exc()
                print(f"--seed {seed} --first {case} --count 1: {kind}", flush=True)
            if outcome.startswith("says"):
                print(f"case {case}: {outcome}")
            outcomes[kind, outcome] += 1
            case += 1
    return outcomes, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="first case")
    parser.add_argument("--count", type=int, help="largest number of cases")
    arguments = parser.parse_args()
    outcomes, failures = run(**vars(arguments))
    for (kind, outcome), n in sorted(outcomes.items()):
        print(f"{n:6d}  {kind:12s} {outcome}")
    print(f"{outcomes.total()} cases of seed {arguments.seed}, {len(failures)} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
