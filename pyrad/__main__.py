"""`python -m pyrad` -> `pyrad`."""

import sys

from pyrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
