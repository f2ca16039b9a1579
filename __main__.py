"""``python -m yolodet`` is the command ``det``."""

import signal
import sys

from .files.interrupt import exit_at_ctrl_c_while_loading


def main() -> int:
    """Run the command line, and end with one line at a Ctrl-C whenever it comes."""
    exit_at_ctrl_c_while_loading()
    from .cli import main as run  # only now: this takes longer than a user takes to press Ctrl-C

    code = run()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python ends
    return code


if __name__ == "__main__":
    sys.exit(main())
