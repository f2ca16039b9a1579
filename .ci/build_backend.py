"""setuptools' build backend, whose temporary folders lie outside of the checkout.

By itself setuptools leaves ``build/`` and ``*.egg-info`` beside the code, and packs into the next
wheel whatever files an earlier one left in ``build/``.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with _outside():
        return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


@contextlib.contextmanager
def _outside():
    """setuptools reads an extra configuration file that names the folders to build in."""
    before = os.environ.get("DIST_EXTRA_CONFIG")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "folders.cfg"
        place = Path(folder).as_posix()
        file.write_text(f"[build]\nbuild_base = {place}/build\n[egg_info]\negg_base = {place}\n")
        os.environ["DIST_EXTRA_CONFIG"] = str(file)
        try:
            yield
        finally:
            if before is None:
                del os.environ["DIST_EXTRA_CONFIG"]
            else:
                os.environ["DIST_EXTRA_CONFIG"] = before
