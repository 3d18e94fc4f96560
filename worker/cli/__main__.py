"""`python -m worker.cli`: the same as the console script `heavylift`."""

from worker.cli.app import main

main()
