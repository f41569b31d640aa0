"""Tasks and shots of the measuring script ``fewshot.py``, for the scripts beside this one."""

import argparse
import sys
from pathlib import Path

import numpy as np


def make_parser(description):
    """Return a parser with the arguments that all accuracy benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--eval", type=Path, required=True, help="folder of fewshot.py")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-test", type=int)
    return parser


def load(args):
    """Return (its function ``auroc``, its tasks, their names in columns)."""
    sys.path.insert(0, str(args.eval))
    import fewshot

    files = sorted(args.data.glob("*.npz"))
    tasks = [task for file in files for task in fewshot.load_tasks(file, args.max_test)]
    return fewshot.auroc, tasks, " ".join(f"{t[0].split('/')[-1][:8]:>8s}" for t in tasks)


def draw_shots(pool, args, seed):
    """Draw the shots that ``fewshot.py`` draws for this seed."""
    return pool[np.random.default_rng(seed).permutation(len(pool))[: args.shots]]
