"""`python -m job` is `catsdogs`."""

from job.cli import main

main()
