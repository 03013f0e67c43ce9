"""`python -m saescope` is the `saescope` command."""

import sys

from saescope.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
