"""``det weights check``: download, hash, import, measure on COCO, and fine-tune; real weights."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import Site, serve
from tiny import keep_threads, write_tiny_data
from yolodet.cli import main
from yolodet.detector.checkpoints.published import COCO_VAL, OtherThanPublished, compare
from yolodet.weights.zoo import ZOO

SHARED = Path(__file__).parents[3] / "shared"
REAL = SHARED / "weights" / "yolox_nano_coco.pth"
COCO = SHARED / "data" / "coco256"
NAME, FILE = "yolox_nano", "yolox_nano.pth"
IMAGES = 12

needs_shared = pytest.mark.skipif(
    not (REAL.is_file() and COCO.is_dir()), reason="needs ../shared: real weights, COCO images"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights folder of these tests."""
    monkeypatch.setenv("DET_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    keep_threads(monkeypatch)
    return tmp_path / "weights"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A few images of COCO val2017."""
    images = sorted((COCO / "images" / "val2017").iterdir())[:IMAGES]
    (tmp_path / "val.txt").write_text("".join(f"{image}\n" for image in images))
    text = (COCO / "coco256.yaml").read_text()
    text = text.replace("images/train2017", "val.txt").replace("images/val2017", "val.txt")
    (tmp_path / "coco.yaml").write_text(text)
    return tmp_path / "coco.yaml"


class Server:
    """The published file, cut off in the middle of the first answer where ``cut``; it honors
    ranges."""

    def __init__(self, cut: bool = False) -> None:
        self.cut, self.body, self.ranges = cut, REAL.read_bytes(), []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        request.send_response(206 if asked else 200)
        request.send_header("ETag", '"real"')
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Length", str(len(self.body) - begin))
        if asked:
            end = f"{len(self.body) - 1}/{len(self.body)}"
            request.send_header("Content-Range", f"bytes {begin}-{end}")
        request.end_headers()
        stop = len(self.body) // 2 if self.cut else len(self.body)
        self.cut = False
        request.wfile.write(self.body[begin:stop])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def site(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    digest = hashlib.sha256(server.body).hexdigest()
    with serve({f"/{FILE}": server}) as site:
        monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], base=f"{site.url}/", sha256=digest))
        yield site


def check(coco: Path, *words: str) -> int:
    return main(["weights", "check", NAME, f"data={coco}", "workers=0", "device=cpu", *words])


@needs_shared
def test_the_whole_path_after_a_download_that_was_cut_off(
    server: Server, site: Site, coco: Path, folder: Path, tmp_path: Path, capsys
) -> None:
    server.cut = True
    assert check(coco) == 1
    assert "run the command again" in " ".join(capsys.readouterr().err.split())
    assert not (folder / FILE).exists()
    assert check(coco, "--json") == 0
    assert server.ranges == [None, f"bytes={len(server.body) // 2}-"]
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["images"] == IMAGES and result["ap"] > result["ap_lowest"] > 0.05
    assert result["ap_published"] == 0.258 and result["license"] == "Apache-2.0"
    assert {path.name for path in folder.iterdir()} == {f"{NAME}.safetensors", "measured.json"}
    data = write_tiny_data(tmp_path / "data")
    quick = ("epochs=1", "batch=4", "imgsz=64", "amp=False", "workers=0", "plots=False")
    assert main(["train", f"data={data}", "device=cpu", *quick, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["model"] == NAME
    assert len(server.ranges) == 2


@needs_shared
def test_a_file_with_another_hash_is_not_used(
    site: Site, coco: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], sha256="0" * 64))
    assert check(coco) == 1
    assert "is not the expected file: its sha256 is" in " ".join(capsys.readouterr().err.split())
    assert not list(folder.glob("*.pth")) and not list(folder.glob("*.safetensors"))


@needs_shared
def test_a_full_disk_is_said_and_the_rest_fetched_later(
    server: Server, site: Site, coco: Path, folder: Path, capsys
) -> None:
    """The quota is a real one: the kernel refuses to let a file grow past it."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        assert main(["weights", "download", NAME]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "File too large" in capsys.readouterr().err and not list(folder.glob("*.safetensors"))
    assert main(["weights", "download", NAME]) == 0
    assert server.ranges[1] is not None


def measured(ap: float | None, images: int) -> dict:
    return {"metrics": {"map": ap, "num_images": images}}


def test_all_of_coco_has_to_agree_and_a_few_images_must_not_lose() -> None:
    entry = ZOO[NAME]  # 25.8
    assert compare(entry, measured(0.266, COCO_VAL))["ap_highest"] == pytest.approx(0.273)
    assert compare(entry, measured(0.343, 128))["note"].startswith("only a loss")
    for ap, images in ((0.28, COCO_VAL), (0.24, COCO_VAL), (0.15, 128), (0.0, 4), (None, 4)):
        with pytest.raises(OtherThanPublished, match="published are"):
            compare(entry, measured(ap, images))


def test_wrong_words_are_refused_in_one_line(capsys) -> None:
    assert main(["weights", "check", "yolov9"]) == 2
    assert "did you mean yolov9t" in capsys.readouterr().err
    assert main(["weights", "check", NAME]) == 2
    assert "missing argument: det weights check NAME data=COCO" in capsys.readouterr().err
