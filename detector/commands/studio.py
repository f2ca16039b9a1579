"""``det studio``: data sets and runs in the browser."""

from __future__ import annotations

import os
from pathlib import Path

from ...files.text import one_line
from ..options.catalog import Command
from ..options.errors import UsageError
from ..options.studio import StudioConfig
from ..run.log import Log
from .outcome import Outcome


def execute(command: Command, config: StudioConfig, given: frozenset[str], log: Log) -> Outcome:
    """Serve the pages until Ctrl-C; trainings that were started there go on."""
    from ..studio.pages_of import AllPages
    from ..studio.server import open_studio

    folder = Path(os.path.realpath(os.path.expanduser(config.folder or os.curdir)))
    if not folder.is_dir():
        raise UsageError(f"folder={config.folder}: is no folder; name one that holds data sets")
    pages = AllPages(folder)
    studio = open_studio(pages.routes(), config.port, log.warn)
    log.always(f"studio of {one_line(str(folder))}: {studio.door.address} (Ctrl-C ends it)")
    try:
        studio.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        studio.server_close()
        pages.close()
    text = "studio closed; trainings that were started there go on"
    return Outcome({"folder": str(folder)}, text)
