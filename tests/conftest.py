"""What tests are given: each a cache folder of its own, so that none leaves anything elsewhere; and
places, data and models that several files ask for by name.

Imports that take seconds stand inside the fixtures: not every test needs a network.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="module")
def rested_collector() -> None:
    """What was imported and collected until now rests: each training and export would have the
    garbage collector look through half a million objects of torch and pytest, 0.2 s every time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def cache_of_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cache folder of what several tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DET_CACHE", str(tmp_path_factory.mktemp("shared-cache")))
        yield


@pytest.fixture(autouse=True)
def cache_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DET_CACHE", str(folder))
    monkeypatch.delenv("DET_WEIGHTS", raising=False)  # det train takes weights that lie there
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and cache, and no data folders from outside."""
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DET_DATASETS", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are really read."""
    from yolodet.datasets.scan import scan as scan_module

    names: list[str] = []
    read = scan_module.image_size

    def counted(path: Path) -> tuple[int, int]:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(scan_module, "image_size", counted)
    return names


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes of ten classes to train on."""
    from tiny import write_tiny_data

    return write_tiny_data(tmp_path_factory.mktemp("data") / "shapes", train=12)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of one class to train on, learned in a few steps."""
    from tiny import write_squares

    return write_squares(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds yolo26n gets the tiny detector."""
    from tiny import use_tiny_detector

    use_tiny_detector(monkeypatch)
