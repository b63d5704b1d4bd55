"""`python -m experiments` is the command `byzax`."""

from experiments.cli import main

main()
