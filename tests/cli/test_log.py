"""Messages of a run: on a terminal, in a pipe, in its file."""

from __future__ import annotations

import threading

import pytest
from rich.console import Console
from yolodet.detector.run.log import Log


@pytest.fixture
def terminal(monkeypatch) -> Log:
    """A log that believes it talks to a terminal of 60 columns."""
    log = Log()
    log._console = Console(stderr=True, force_terminal=True, width=60, color_system="standard")
    return log


def test_the_file_has_everything_also_what_came_before_it(tmp_path, capsys) -> None:
    log = Log(verbose=False)
    log.info("first [bold]")
    log.warn("beware")
    path = tmp_path / "run" / "log.txt"
    log.to_file(path)
    log.table("per class", ("class", "AP"), [("cat", 0.5), ("dog", "0.25")])
    log.epoch_header(("epoch", "AP"))
    log.epoch_row(("1/3", "0.1235"))
    lines = path.read_text().splitlines()
    assert lines[:3] == ["first [bold]", "WARNING: beware", "per class"]
    assert [line.split() for line in lines[3:] if line.split()[1:2] in (["0.5"], ["0.25"])] == [
        ["cat", "0.5"],
        ["dog", "0.25"],
    ]
    assert [line.split() for line in lines[-2:]] == [["epoch", "AP"], ["1/3", "0.1235"]]
    assert capsys.readouterr().err == "WARNING: beware\n"  # verbose=False keeps the rest off stderr
    assert log.warnings == ["beware"]


def test_a_pipe_gets_plain_whole_lines_and_no_bars(capsys) -> None:
    log = Log()
    long = "x " * 200
    log.info(long)
    log.message("WARNING: strange")
    log.message("usual")
    with log.progress("silent", 3) as update:
        update(3, 3)
    with log.progress("drawing", 3, report=True) as update:
        for done in range(3):
            update(done + 1, 3, "note")
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    lines = err.splitlines()
    assert lines[:3] == [long, "WARNING: strange", "usual"]
    assert lines[3].startswith("drawing: 3 in ")
    assert len(lines) == 4


def test_rows_of_epochs_stand_under_their_names(capsys) -> None:
    log = Log()
    log.epoch_header(("epoch", "box", "a long name", "AP"))
    log.epoch_row(("100/100", "12.35", "1", "0.500"))
    log.epoch_row(("1/100", "0.5", "20000", "0.501"))
    header, first, second = capsys.readouterr().err.splitlines()
    for name, value, other in (("a long name", "1", "20000"), ("box", "12.35", "0.5")):
        end = header.index(name) + len(name)
        assert second[:end].endswith(other)
        assert first[: end + 1].endswith(value)  # the wide epoch pushes its row by one
    assert second.endswith("0.501")


def test_a_terminal_sees_colors_a_bar_and_the_live_note(terminal, capsys, tmp_path) -> None:
    terminal.to_file(tmp_path / "log.txt")
    terminal.warn("beware")
    with terminal.progress("epoch 1/2", 10) as update, terminal.progress("inner", 0) as inner:
        update(4, 10, "loss 1.5")
        inner(1, 7)
        terminal._progress.refresh()
        terminal.info("a line above the bars")
    out, err = capsys.readouterr()
    assert out == ""
    for text in ("beware", "epoch 1/2", "4/10", "loss 1.5", "1/7", "a line above the bars"):
        assert text in err
    assert "\x1b[" in err
    assert terminal._progress is None
    assert (tmp_path / "log.txt").read_text() == "WARNING: beware\na line above the bars\n"


def test_a_bar_is_gone_after_an_error(terminal) -> None:
    with pytest.raises(ValueError, match="inside"), terminal.progress("working", 2):
        raise ValueError("inside")
    assert terminal._progress is None
    with terminal.progress("again", 1) as update:
        update(1, 1)


def test_lines_of_threads_do_not_mix(tmp_path) -> None:
    log = Log(verbose=False)
    log.to_file(tmp_path / "log.txt")
    texts = [str(number) * 300 for number in range(8)]
    threads = [
        threading.Thread(target=lambda text=text: [log.info(text) for _ in range(20)])
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert sorted(lines) == sorted(texts * 20)
