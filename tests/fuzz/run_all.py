"""All fuzz scripts, one after another, each for an equal share of the time.

Run ``python tests/fuzz/run_all.py --seconds 600 --seed 0``. The exit code is 1 if a script failed.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = "fuzz_folders.py", "fuzz_forms.py", "fuzz_model_files.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folders = str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    codes = []
    for script in SCRIPTS:
        print(f"== {script}", flush=True)
        path, seconds = Path(__file__).with_name(script), options.seconds / len(SCRIPTS)
        command = [sys.executable, path, "--seconds", str(seconds), "--seed", str(options.seed)]
        codes.append(subprocess.run(command, cwd=ROOT, env=environment).returncode)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
