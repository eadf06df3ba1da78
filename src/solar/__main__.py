"""`python -m solar`: the command `solar`."""

from solar.cli import main

main()
