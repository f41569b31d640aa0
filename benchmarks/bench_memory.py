"""Peak memory of a process that fits many large shots and scores them, on the CPU.

python benchmarks/bench_memory.py --backbone mobilenetv2_100
"""

import argparse
import resource
import sys

import numpy as np

from skcoft import COFTDetector


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--shots", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    args = parser.parse_args(argv)
    shape = (args.shots, args.size, args.size, 3)
    shots = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    detector = COFTDetector(
        args.backbone,
        weights=None,
        image_size=args.size,
        max_iter=args.iterations,
        device="cpu",
        random_state=0,
    )
    detector.fit(shots).score_samples(shots)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    print(
        f"{args.backbone}, {args.shots} shots of {args.size} px, {args.iterations} iterations: "
        f"{peak / 2**30:.2f} GiB"
    )


if __name__ == "__main__":
    main()
