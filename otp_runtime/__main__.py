"""`python -m otp_runtime …`: the command line."""

import sys

from otp_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
