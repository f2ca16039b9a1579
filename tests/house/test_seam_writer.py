"""A format for export is added from outside: one class, and the package is not touched."""

import json
from pathlib import Path

import numpy as np
import torch
from exports import make_run
from yolodet.cli import main
from yolodet.detector.export.formats import writers
from yolodet.detector.options.formats import FORMATS, Format


class Pickled:
    """torch.save of the graph and the metadata."""

    def write(self, graph, path, settings, texts) -> None:
        torch.save([graph, dict(texts)], path)

    def read_about(self, path) -> dict[str, str]:
        return torch.load(path, weights_only=False)[1]

    def open_file(self, path, device, threads=None):
        graph = torch.load(path, weights_only=False)[0]
        return lambda images: [np.asarray(graph(torch.from_numpy(images)).detach())]


def test_a_writer_from_outside(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(writers, "WRITERS", writers.WRITERS)
    for table in (FORMATS, writers.WRITERS):
        monkeypatch.setitem(table, "pickled", None)
        monkeypatch.delitem(table, "pickled")
    run = make_run(tmp_path, monkeypatch)
    writers.register(Format("pickled", "torch", ".graph"), Pickled())
    assert main(["export", "format=pickled"]) == 0
    assert json.loads((run / "best.graph.json").read_text())["parity"]["matched"] > 3
    assert main(["info", str(run / "best.graph")]) == 0
    assert "pickled" in capsys.readouterr().out
