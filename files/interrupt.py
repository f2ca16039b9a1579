"""Ctrl-C while a command is still being loaded: one line and exit code 130.

Importing takes seconds on a busy machine.  A KeyboardInterrupt inside an import may come out as an
ImportError, or before there is code to catch it; and nothing has been written yet that would have
to be cleaned up.  So the process ends at once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType

_ROOT = Path(__file__).parents[1]
_LOADERS = (str(_ROOT / "cli.py"), str(_ROOT / "__main__.py"), str(_ROOT / "detector" / "commands"))


def exit_at_ctrl_c_while_loading() -> None:
    """From now on; at other times Ctrl-C raises KeyboardInterrupt as usual.  A command that is
    started in the background with Ctrl-C ignored keeps ignoring it."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(signum: int, frame: FrameType | None) -> None:
    if _is_loading(frame):
        os.write(2, b"det: stopped by Ctrl-C\n")
        os._exit(130)
    raise KeyboardInterrupt


def _is_loading(frame: FrameType | None) -> bool:
    """Whether the outermost import under way was begun by the command line or a command's file."""
    importer, importing = "", False
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            importing = True
        elif importing:
            importer, importing = file, False
        frame = frame.f_back
    return importer.startswith(_LOADERS)
