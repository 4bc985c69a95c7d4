"""`python -m audience_stream`, so that a service's command line ends in its name."""

from audience_stream.cli import main

main()
