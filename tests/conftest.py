"""What every test gets: a cache folder of its own, so that none leaves anything elsewhere."""

import pytest


@pytest.fixture(autouse=True)
def own_cache_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DET_CACHE", str(tmp_path_factory.mktemp("cache")))
