"""``python -m skcoft``: see ``python -m skcoft --help``."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
