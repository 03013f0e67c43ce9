"""`python -m saescope` is the `saescope` command."""

import sys

from saescope.cli import main

if __name__ == "__main__":
    sys.exit(main())
