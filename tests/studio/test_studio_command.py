"""``det studio`` on the command line: what it prints, refuses and returns."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from yolodet.cli import main
from yolodet.detector.studio.server import Studio


def test_it_prints_its_address_and_ends_with_ctrl_c(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Studio] = []

    def serve_one(studio: Studio, poll_interval: float = 0) -> None:
        seen.append(studio)
        raise KeyboardInterrupt

    monkeypatch.setattr(Studio, "serve_forever", serve_one)
    assert main(["studio", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert (
        f"http://127.0.0.1:{seen[0].server_address[1]}/?token={seen[0].door.token}" in printed.err
    )
    assert str(Path.cwd()) in printed.err
    assert "trainings" in printed.out


def test_a_port_that_is_taken_and_no_folder_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["studio", f"port={taken.getsockname()[1]}"]) == 2
    assert "port=" in capsys.readouterr().err
    assert main(["studio", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_it_listens_on_this_machine_only(place: Path) -> None:
    studio = Studio({}, 0, print)
    try:
        assert studio.server_address[0] == "127.0.0.1"
        assert urlsplit(studio.door.address).hostname == "127.0.0.1"
    finally:
        studio.server_close()
