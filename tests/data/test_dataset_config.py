"""From ``data=`` to folders: what is found where, what is refused, and what stands in."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from local_server import serve
from made_data import OK, describe, make_folders
from rows import each
from yolodet.datasets.drawn import shapes
from yolodet.datasets.sets import locate as config
from yolodet.datasets.sets.locate import Dataset, DatasetError, load_dataset
from yolodet.files.download import DownloadError
from yolodet.files.folders import cache_folder

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Drawing is left to its own tests: three small pictures, and a list of what was asked."""
    draw, asked = shapes.write_shapes, []

    def write(folder: Path, **numbers: Any) -> Path:
        asked.append(numbers)
        return draw(folder, train=2, val=1, size=64, on_progress=numbers["on_progress"])

    monkeypatch.setattr(shapes, "write_shapes", write)
    return asked


def no_network(*args: object, **named: object) -> None:
    raise AssertionError("the network was asked")


# ---------------------------------------------------------------- where things are


def test_data_words_that_name_nothing(place: Path) -> None:
    here = place / "here"
    (here / "a.txt").write_text("")
    make_folders(here / "none")
    describe(here / "two", name="a.yaml"), describe(here / "two", name="b.yml")
    for word, message in {
        "coco9.yaml": f"data: {here}/coco9.yaml does not exist; built in are coco8.yaml, "
        "shapes-easy.yaml, shapes.yaml; did you mean coco8.yaml?",
        "sub/coco8.yaml": f"data: {here}/sub/coco8.yaml does not exist",
        "a.txt": f"data: {here}/a.txt is an empty file: name the data set's folder or YAML",
        "none": f"data: the folder {here}/none must hold one YAML; found none",
        "two": f"data: the folder {here}/two must hold one YAML; found a.yaml, b.yml",
        "": "data is empty",
        "x\0y": "does not exist",
        "x" * 5000: "does not exist",
    }.items():
        with pytest.raises(DatasetError, match=re.escape(message)):
            load_dataset(word)


@each("word", ["here.yaml", "here", "sub", "~/here.yaml"])
def test_ways_to_name_a_yaml(place: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("HOME", str(place / "here"))
    make_folders(place / "here"), make_folders(place / "here/sub")
    describe(place / "here", name="here.yaml"), describe(place / "here/sub", name="data.yaml")
    data = load_dataset(word)
    assert data.name == ("sub" if word == "sub" else "here")
    assert data.root == data.yaml.parent


def test_current_folder_goes_before_built_in_names(place: Path) -> None:
    make_folders(place / "here")
    describe(place / "here", name="coco8.yaml")
    assert load_dataset("coco8.yaml").class_names == ("a", "b")
    assert load_dataset("coco8").class_names == ("a", "b")


def test_order_of_places(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = describe(place / "yaml", OK + "path: mine")
    first, second = place / "data1", place / "data2"
    monkeypatch.setenv("DET_DATASETS", f"{first}{os.pathsep}{second}")
    # From the last place to the first: each new one goes before those that are there already.
    bases = [place / "cache/datasets", second, first, place / "here", place / "yaml"]
    for base in bases:
        make_folders(base / "mine")
        data = load_dataset(file)
        assert data.root == base / "mine"
        assert data.splits["train"] == [base / "mine/images/train"]


def test_absolute_path_and_absolute_entries(place: Path) -> None:
    far = make_folders(place / "far")
    data = load_dataset(describe(place / "x", OK + f"path: {far}"))
    assert data.splits["val"] == [far / "images/val"]
    text = f"train: [{far}/images/train, ../far/images/val]\nval: {far}/images/val\nnc: 1"
    data = load_dataset(describe(place / "x", text))
    assert data.splits["train"] == [far / "images/train", far / "images/val"]


def test_exported_dots_are_forgiven(place: Path) -> None:
    make_folders(place / "x", "train/images", "valid/images")
    text = "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: [a]"
    data = load_dataset(describe(place / "x", text, "data.yaml"))
    assert data.splits["train"] == [place / "x/train/images"]
    assert data.name == "x"


def test_missing_folder_names_every_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DET_DATASETS", str(place / "data1"))
    make_folders(place / "here/mine", "images/train")
    file = describe(place / "yaml", OK + "path: mine")
    dataset = load_dataset(file)
    assert list(dataset.splits) == ["train"]
    with pytest.raises(DatasetError) as caught:
        dataset.sources("val")
    told = str(caught.value)
    assert f"{file}: val: 'images/val' was not found" in told
    for base in ("yaml", "here", "data1", "cache/datasets"):
        assert f"{place}/{base}/mine/images/val" in told
    assert "DET_DATASETS" in told


def test_missing_test_split_is_left_out_aloud(place: Path) -> None:
    make_folders(place / "x")
    heard: list[str] = []
    file = describe(place / "x", OK + "test: images/test")
    data = load_dataset(file, on_message=heard.append)
    assert heard == [f"{file}: test: not found under {place}/x; left out"]
    with pytest.raises(DatasetError, match="there is no split 'test'; there is train, val"):
        data.sources("test")


def test_file_that_is_no_list_is_refused(place: Path) -> None:
    make_folders(place / "x", "images/val")
    (place / "x/images/train").write_text("")
    with pytest.raises(DatasetError, match=r"train is not a folder of images, an image or a \.txt"):
        load_dataset(describe(place / "x"))


def test_cache_folder_order(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == place / "cache"
    monkeypatch.setenv("DET_CACHE", "~/mine")
    assert cache_folder() == Path("/home/me/mine")
    monkeypatch.setenv("DET_CACHE", "")
    assert cache_folder() == Path("/xdg/det")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("/home/me/.cache/det")


def test_checking_a_data_set_loads_nothing_heavy(place: Path) -> None:
    file = describe(make_folders(place / "x"))
    code = (
        "import sys; from yolodet.datasets.sets.locate import load_dataset; "
        f"load_dataset({str(file)!r}); load_dataset({str(place / 'x')!r}); "
        "print([m for m in ('torch', 'cv2', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---------------------------------------------------------------- archives


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


FILES = ("images/train/a.jpg", "images/val/b.jpg", "labels/train/a.txt")


@pytest.mark.parametrize("top", ["", "tiny/", "other/"])
def test_archive_is_fetched_once_whatever_its_top_folder(place: Path, top: str) -> None:
    heard: list[str] = []
    steps: list[tuple[int, int]] = []
    with serve({"/tiny.zip": zipped(*(top + name for name in FILES))}) as site:
        text = OK + f"path: tiny\nlicense: free to use\ndownload: {site.url}/tiny.zip\n"
        file = describe(place / "x", text)
        for _ in range(2):
            data = load_dataset(
                file, on_message=heard.append, on_progress=lambda *step: steps.append(step)
            )
        assert site.asked == ["/tiny.zip"]
    assert data.splits["train"][0].is_relative_to(place / "cache/datasets")
    assert [path.name for path in data.splits["train"][0].iterdir()] == ["a.jpg"]
    assert data.stand_in is None
    assert len(heard) == 1
    assert heard[0].endswith("license: free to use")
    assert steps[-1][0] == steps[-1][1] > 0
    assert [path.name[:5] for path in (place / "cache/datasets").iterdir()] == ["tiny-"]


def test_data_on_disk_never_asks_the_network(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "download_file", no_network)
    make_folders(place / "here/coco8")
    data = load_dataset("coco8.yaml")
    assert (data.name, data.stand_in, data.num_classes) == ("coco8", None, 80)
    assert data.root == place / "here/coco8"
    assert (data.class_names[0], data.class_names[11], data.class_names[79]) == (
        "person", "stop sign", "toothbrush",
    )  # fmt: skip
    assert "CC BY 4.0" in str(data.license)


@each(
    ("download", "message"),
    [
        ("bash data/get.sh", "download: 'bash data/get.sh' is not the address of a .zip file"),
        ("|\n  import os\n  os.mkdir('evil')\n", "download: 'import os' is not the address"),
        ("get.zip", "'get.zip' is not the address of a .zip file"),
        ("https://example.org/a.tar.gz", "'https://example.org/a.tar.gz' is not the address"),
        ("https://[::1/a.zip", "'https://...' is not the address"),
        ("''", "download: '' is not the address"),
    ],
)
def test_scripts_are_refused_by_name_and_never_run(
    place: Path, download: str, message: str
) -> None:
    file = describe(place / "x", OK + f"path: tiny\ndownload: {download}\n")
    with pytest.raises(DatasetError, match=re.escape(message)) as caught:
        load_dataset(file)
    assert "scripts are never run" in str(caught.value)
    assert not (place / "here/evil").exists()
    make_folders(place / "x/tiny")
    assert load_dataset(file).root == place / "x/tiny"  # not needed, not minded


@pytest.mark.parametrize(
    ("line", "allowed", "message"),
    [
        ("", False, "downloads are off (download=False)"),
        ("", True, "the server answered 404 Not Found"),
        ("download: http://example.org/a.zip", True, "is refused: expected an address that beg"),
    ],
)
def test_archive_that_cannot_be_had(
    place: Path, line: str, allowed: bool, message: str
) -> None:
    with serve({}) as site:
        line = line or f"download: {site.url}/a.zip"
        file = describe(place / "x", OK + f"path: tiny\n{line}\n")
        with pytest.raises(DownloadError, match=re.escape(message)) as caught:
            load_dataset(file, download=allowed)
        assert site.asked == (["/a.zip"] if "404" in message else [])
    assert "'images/train' was not found" in str(caught.value)
    assert not list(place.glob("cache/datasets/*"))


def test_archive_limits_hash_and_wrong_content(place: Path) -> None:
    body = zipped("pictures/a.jpg")
    with serve({"/a.zip": body}) as site:
        text = OK + f"path: tiny\ndownload: {site.url}/a.zip\n"
        with pytest.raises(DownloadError, match="over the limit of 50"):
            load_dataset(describe(place / "x", text + "download_limit: 50"))
        with pytest.raises(DownloadError, match="its sha256 is"):
            load_dataset(describe(place / "x", text + "download_sha256: '00'"))
        for _ in range(2):
            with pytest.raises(DatasetError, match=r"holds other folders: .*'images/train'"):
                load_dataset(describe(place / "x", text))
        assert len(site.asked) == 3


# ---------------------------------------------------------------- drawn data and the stand-in


def told_stand_in(data: Dataset, heard: list[str]) -> None:
    assert (data.name, data.stand_in) == ("shapes-as-coco8", "coco8")
    assert data.class_names == shapes.SHAPE_CLASSES
    assert heard[-1].startswith("WARNING: coco8 is not on disk and could not be downloaded: ")
    assert "Its results are NOT results of coco8" in heard[-1]


def test_coco8_without_download_is_replaced(
    small_shapes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "download_file", no_network)
    heard: list[str] = []
    told_stand_in(load_dataset("coco8", download=False, on_message=heard.append), heard)
    assert "downloads are off (download=False)" in heard[-1]


def test_coco8_that_cannot_be_fetched_is_replaced(
    small_shapes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, *args: object, **named: object) -> None:
        assert url == "https://github.com/ultralytics/assets/releases/download/v0.0.0/coco8.zip"
        raise DownloadError("could not download: no route to host")

    monkeypatch.setattr(config, "download_file", offline)
    heard: list[str] = []
    told_stand_in(load_dataset("coco8.yaml", on_message=heard.append), heard)
    assert "no route to host" in heard[-1]


def test_coco8_is_taken_where_its_address_answers(
    place: Path, small_shapes: list[dict[str, Any]]
) -> None:
    text = (config.BUILT_IN / "coco8.yaml").read_text()
    with serve({"/coco8.zip": zipped(*(f"coco8/{name}" for name in FILES))}) as site:
        text = re.sub(r"https://github.com/\S*/coco8.zip", f"{site.url}/coco8.zip", text)
        data = load_dataset(describe(place / "here", text, "coco8.yaml"))
    assert (data.name, data.stand_in, data.num_classes) == ("coco8", None, 80)
    assert data.root.parent.parent == place / "cache/datasets"
    assert small_shapes == []


def test_shapes_are_drawn_once_for_the_same_numbers(
    place: Path, small_shapes: list[dict[str, Any]]
) -> None:
    heard: list[str] = []
    steps: list[tuple[int, int]] = []
    first = load_dataset(
        "shapes", on_message=heard.append, on_progress=lambda *step: steps.append(step)
    )
    again = load_dataset("shapes.yaml", on_message=heard.append)
    assert first == again
    assert (first.name, first.stand_in) == ("shapes", None)
    assert heard == [f"drawing shapes into {first.root}"]
    assert steps[-1] == (3, 3)
    asked = {key: small_shapes[0][key] for key in ("train", "val", "test", "size", "seed")}
    assert asked == {"train": 64, "val": 16, "test": 0, "size": 640, "seed": 0}
    assert len(small_shapes) == 1
    other = load_dataset(describe(place / "x", "shapes: {train: 5, seed: 1}", "mine.yaml"))
    assert other.name == "mine"
    assert other.root != first.root
    assert (small_shapes[1]["train"], small_shapes[1]["seed"]) == (5, 1)


def test_drawing_where_nothing_can_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").write_text("")
    monkeypatch.setenv("DET_CACHE", str(place / "file"))
    with pytest.raises(DatasetError, match=r"cannot be written: .*; set DET_CACHE"):
        load_dataset("shapes")
