"""`python -m icekeel` is the command `icekeel`."""

from icekeel.cli.main import main

main()
