"""`python -m gentrain`, and what torchrun starts."""

from gentrain.cli import leave, main

if __name__ == "__main__":
    leave(main())
