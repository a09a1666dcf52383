"""`python -m maxi` is `maxi`."""

from maxi.cli import main

main()
