"""`python -m bridge`: the same as the `aventa-bridge` command."""

from bridge.cli import main

main()
