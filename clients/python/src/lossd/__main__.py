"""`python -m lossd serve`: see _program.main."""

import sys

from ._program import main

if __name__ == "__main__":
    main(sys.argv[1:])
