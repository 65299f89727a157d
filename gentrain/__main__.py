"""`python -m gentrain`, and what torchrun starts."""

import sys

from gentrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
