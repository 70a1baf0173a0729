"""`python -m icekeel` is the command `icekeel`."""

from icekeel.cli.entry import main

main()
