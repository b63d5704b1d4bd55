"""`python -m byzax` is the command `byzax`."""

from byzax.experiments.cli import main

main()
