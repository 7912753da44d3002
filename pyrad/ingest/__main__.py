"""`python -m pyrad.ingest` -> `pyrad ingest`."""

import sys

from pyrad.cli import main

if __name__ == "__main__":  # worker processes import this module too
    sys.exit(main(["ingest", *sys.argv[1:]]))
