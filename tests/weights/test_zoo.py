"""Weights by name and other projects' files: fetched once, converted, used, and honest about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import pickled_model, renamed, save
from local_server import Site, serve
from rows import each
from tiny import keep_threads, train, train_config, write_tiny_data
from widths import build_wide
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.images.image import CORNER, letterbox
from yolodet.detector.checkpoints import evaluate
from yolodet.detector.checkpoints.adopt import adopt, convert, default_names
from yolodet.detector.checkpoints.fetch import obtain
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.commands.predict import check_predict
from yolodet.detector.commands.weights import list_weights
from yolodet.detector.models.build import NAMES, architecture_of, build
from yolodet.detector.models.detector_like import ForwardOptions
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.names import MODELS
from yolodet.detector.options.predict import PredictConfig
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.options.val import ValConfig
from yolodet.detector.predict import pipeline as prediction
from yolodet.detector.predict.predictor import Predictor
from yolodet.detector.predict.sources import open_source
from yolodet.detector.run.log import Log
from yolodet.detector.train.assemble import choose_size
from yolodet.detector.train.check import check_train
from yolodet.detector.train.start import Start, start
from yolodet.files.download import DownloadError
from yolodet.weights import zoo
from yolodet.weights.checkpoint import CheckpointError, Meta, read_meta, save_weights
from yolodet.weights.importers import ImportFailed, yolov9, yolox
from yolodet.weights.shelf import converted, weights_folder
from yolodet.weights.zoo import PERMISSIVE, ZOO, LicenseError

NAME, FILE = "yolox_nano", "yolox_nano.pth"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights folder of these tests."""
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DET_WEIGHTS", str(tmp_path / "weights"))
    keep_threads(monkeypatch)
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as YOLOX publishes it, with weights of our own making."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / FILE
    torch.save({"model": renamed(build(NAME, 80)), "start_epoch": 300}, path)
    return path


@pytest.fixture
def site(published: Path, monkeypatch: pytest.MonkeyPatch):
    with serve({f"/{FILE}": published.read_bytes(), "/bad.pth": b"no checkpoint"}) as site:
        monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], base=f"{site.url}/"))
        yield site


def test_the_list_is_of_models_that_can_be_built_and_of_permissive_licenses() -> None:
    for name, entry in ZOO.items():
        assert entry.name == name and name in NAMES and name in MODELS
        assert entry.license in PERMISSIVE and entry.url.startswith("https://")
        assert 20 < entry.ap < 60 and entry.image_size % 32 == 0
    licenses = {name[:5]: entry.license for name, entry in ZOO.items()}
    assert licenses == {"yolov": yolov9.LICENSE, "yolox": yolox.LICENSE}


def test_a_name_is_fetched_and_converted_once(site: Site, folder: Path, published: Path) -> None:
    said: list[str] = []
    path = obtain(NAME, on_message=said.append)
    assert path == converted(NAME) == folder / f"{NAME}.safetensors"
    assert obtain(NAME) == path and site.asked == [f"/{FILE}"]
    assert [file.name for file in folder.iterdir()] == [path.name]
    assert said == [f"downloading the weights of {NAME} (Apache-2.0) from {site.url}/{FILE}"]
    model, meta = restore(path)
    theirs, _ = restore(published)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key])
    assert meta.class_names[:2] == ("person", "bicycle") and meta.num_classes == 80
    assert (meta.license, meta.image_size) == ("Apache-2.0", 416)
    assert f"{site.url}/{FILE}, sha256 " in meta.provenance
    assert meta.data == {"name": "COCO 2017"} and meta.metrics == {"map_published": 0.258}


def test_a_file_put_there_by_hand_needs_no_network(folder: Path, published: Path) -> None:
    with pytest.raises(DownloadError, match=rf"offline=True .* put {FILE} there"):
        obtain(NAME, offline=True)
    folder.mkdir()
    (folder / FILE).write_bytes(published.read_bytes())
    listed = {row["name"]: row["downloaded"] for row in list_weights()["weights"]}
    assert listed[NAME] and not listed["yolox_tiny"]
    meta = read_meta(obtain(NAME, offline=True))
    assert meta.model == NAME and meta.image_size == 416
    assert "put into the weights folder by hand, sha256 " in meta.provenance
    assert ZOO[NAME].url not in meta.provenance and meta.metrics == {}
    assert (folder / FILE).exists()  # what the user put there stays


def test_what_is_no_checkpoint_of_that_model_is_fetched_again_next_time(
    site: Site, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ZOO, "yolox_s", replace(ZOO[NAME], name="yolox_s"))
    with pytest.raises(CheckpointError, match="holds a yolox_nano, not a yolox_s"):
        obtain("yolox_s")
    monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], file="bad.pth"))
    for _ in range(2):
        with pytest.raises(ImportFailed, match="broken pickle"):
            obtain(NAME)
    assert site.asked == [f"/{FILE}", "/bad.pth", "/bad.pth"] and not list(folder.iterdir())


def test_a_failed_download_says_what_to_do_without_a_network(site, monkeypatch) -> None:
    monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], file="gone.pth"))
    with pytest.raises(DownloadError, match=r"answered 404 .* put gone\.pth into"):
        obtain(NAME)


def test_other_licenses_must_be_accepted_by_name(site: Site, monkeypatch) -> None:
    monkeypatch.setitem(ZOO, NAME, replace(ZOO[NAME], license="CC-BY-NC-4.0"))
    for accepted in (None, "MIT", "true"):
        with pytest.raises(LicenseError, match=r"accept it with accept_license=CC-BY-NC-4\.0"):
            obtain(NAME, accept_license=accepted)
    assert site.asked == []
    assert obtain(NAME, accept_license="CC-BY-NC-4.0").is_file()
    assert zoo.license_notice("x", "AGPL-3.0", "y") and not zoo.license_notice("x", "MIT", "y")


def test_the_weights_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.delenv("DET_WEIGHTS")
    assert weights_folder() == tmp_path / "cache" / "weights"


def begin(tmp_path: Path, **words):
    config, _ = train_config(tmp_path / "none.yaml", tmp_path, **words)
    log = Log(verbose=False)
    return start(config, ("dog", "zebra", "unicorn"), log), log


def test_a_name_of_the_list_starts_from_its_weights_unless_told(site: Site, tmp_path: Path) -> None:
    torch.manual_seed(1)
    learned, _ = begin(tmp_path, model=NAME)
    theirs = restore(converted(NAME))[0].state_dict()
    ours = learned.model.state_dict()
    for key, tensor in ours.items():
        if key not in learned.model.class_keys:
            assert torch.equal(tensor, theirs[key]), key
    assert learned.transferred is not None and learned.transferred.classes == ("dog", "zebra")
    row = "head.one_to_many.classes.0.2.weight"
    assert torch.equal(ours[row][0], theirs[row][16]) and learned.license == "Apache-2.0"
    assert learned.image_size == 416
    fresh, _ = begin(tmp_path, model=NAME, pretrained=False)
    assert fresh.transferred is None and fresh.provenance == "trained from scratch"
    other, _ = begin(tmp_path, model="yolox_tiny", pretrained=NAME)
    assert other.model.name == "yolox_tiny" and other.transferred is not None
    assert len(other.transferred.left_out) > 100  # another size fits in few places
    assert site.asked == [f"/{FILE}"]


def test_a_file_of_ultralytics_is_used_with_its_license(tmp_path: Path) -> None:
    names = {0: "dog", 1: "cat"}
    torch.manual_seed(0)
    theirs = build_wide("yolo11n", 2, 80)
    path = save(tmp_path / "theirs.pt", model=pickled_model(renamed(theirs), names), ema=None)
    begun, log = begin(tmp_path, model=str(path))
    assert begun.license == "AGPL-3.0"
    assert architecture_of(begun.model).widths["head.one_to_many.classes.0.3.conv"] == (80, 80, 1)
    assert len(log.warnings) == 1 and "theirs.pt is under AGPL-3.0" in log.warnings[0]
    meta = convert(path, tmp_path / "ours.safetensors")
    model, again = restore(tmp_path / "ours.safetensors")
    assert again == meta and meta.class_names == ("dog", "cat") and meta.license == "AGPL-3.0"
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key])


def test_a_branch_that_a_file_lacks_is_not_there_to_be_read(tmp_path: Path) -> None:
    gone = ("model.23.cv2.", "model.23.cv3.")
    state = {k: v for k, v in renamed(build("yolo26n", 3)).items() if not k.startswith(gone)}
    torch.save(state, tmp_path / "one.pt")
    model, _ = adopt(tmp_path / "one.pt")
    assert model.branches == ("one_to_one",)
    convert(tmp_path / "one.pt", tmp_path / "one.safetensors")
    assert restore(tmp_path / "one.safetensors")[0].branches == ("one_to_one",)
    begun, _ = begin(tmp_path, model=str(tmp_path / "one.pt"))
    assert begun.model.branches == ("one_to_many", "one_to_one")


def test_the_size_is_that_of_the_weights_where_the_user_gives_none(tmp_path: Path) -> None:
    config, _ = train_config(tmp_path / "none.yaml", tmp_path)
    log = Log(verbose=False)
    log.to_file(tmp_path / "log.txt")
    with torch.device("meta"):
        model = build(NAME, 1)
    weights, scratch = Start(model, image_size=416), Start(model)
    assert choose_size(replace(config, imgsz=None), weights, log) == 416
    said = (tmp_path / "log.txt").read_text()
    assert "imgsz=416, the size that the weights were trained at" in said
    assert choose_size(replace(config, imgsz=96), weights, log) == 96
    assert choose_size(replace(config, imgsz=None), scratch, log) == 640


def test_names_for_a_file_without_any() -> None:
    assert default_names(80)[16] == "dog" and default_names(2) == ("class0", "class1")


@each("name", ["yolo26n", "yolo11n", "yolov8n", "yolov9t", "yolox_nano"])
def test_a_model_says_of_its_input_what_the_importer_says(name: str) -> None:
    with torch.device("meta"):
        model = build(name, 2)
    importer = {"yolov9": yolov9, "yolox_": yolox}.get(name[:6])
    expected = importer.PREPROCESS if importer else yolov9.PREPROCESS
    assert model.preprocessing == expected


def test_the_letterbox_of_the_metadata_is_the_one_that_is_used(tmp_path: Path) -> None:
    """On an image that is not square: prediction and validation see it at the top left."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 96, 3), dtype=np.uint8)
    expected, box = letterbox(image, 64, align=CORNER)
    assert box.pad_x == 0 and abs(box.pad_y) < 0.5 and (expected[30:] == 114).all()
    meta = convert_nano(tmp_path / "nano.safetensors", "top-left")
    model, _ = restore(meta)
    seen = watch_input(model)
    predictor = Predictor(
        model, ("a", "b"), 64, DetectOptions(conf=0.0, max_det=5),
        ForwardOptions(torch.device("cpu")),
    )  # fmt: skip
    (result,) = predictor.stream(open_source(image, rgb=True))
    assert torch.equal(seen[0][0], torch.from_numpy(expected).permute(2, 0, 1))
    assert (result.boxes.xyxy[:, 3] <= 40).all() and len(result)
    centerd, _ = restore(convert_nano(tmp_path / "centerd.safetensors", "center"))
    assert centerd.letterbox == "center" and model.letterbox == "top-left"
    with pytest.raises(CheckpointError, match="wants the letterbox 'bottom'"):
        restore(convert_nano(tmp_path / "odd.safetensors", "bottom"))


def convert_nano(path: Path, where: str) -> Path:
    torch.manual_seed(0)
    model = build(NAME, 2)
    preprocess = {**model.preprocessing, "letterbox": where}
    meta = Meta(NAME, ("a", "b"), 64, model.strides, "fp32", preprocess=preprocess)
    save_weights(path, model.state_dict(), meta)
    return path


def watch_input(model: torch.nn.Module) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].clone()))
    return seen


def test_a_run_from_the_list_keeps_license_letterbox_and_needs_the_file_once(
    site: Site, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train, validate, predict and go on: the way of a user who typed a name."""
    aligned: list[str] = []

    class Watched(DetectionDataset):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            aligned.append(self.align)

    monkeypatch.setattr(evaluate, "DetectionDataset", Watched)
    data = write_tiny_data(tmp_path / "data")
    frozen = "backbone.stem,backbone.stage2"
    results = train(data, tmp_path / "runs", model=NAME, epochs=1, freeze=frozen)
    said = " ".join((Path(results["folder"]) / "log.txt").read_text().split())
    assert "transferred tensors learn at 0.0005 (lr_transferred=0.25 of lr0), new ones at" in said
    assert "frozen: backbone.stem, backbone.stage2" in said
    assert results["head"] == "one-to-many + NMS"
    meta = read_meta(Path(results["best"]))
    assert meta.license == "Apache-2.0" and meta.preprocess["letterbox"] == "top-left"
    assert meta.provenance.startswith(f"{NAME}.safetensors (Megvii-BaseDetection/YOLOX: http")
    report = (Path(results["folder"]) / "transfer.txt").read_text()
    assert report.startswith("transferred 642 of 642 tensors; ")
    common = {"device": "cpu", "project": str(tmp_path / "runs"), "offline": True}
    best = results["best"]
    val = ValConfig(model=best, data=str(data), workers=0, plots=False, **common)
    assert evaluate.val(val, frozenset(), Log(verbose=False))["head"] == "one-to-many + NMS"
    assert aligned == [CORNER]
    source = str(next((tmp_path / "data" / "images" / "val").iterdir()))
    predict = PredictConfig(model=NAME, source=source, imgsz=64, save=False, **common)
    assert prediction.predict(predict, frozenset(), Log(verbose=False))["images"] == 1
    (folder / f"{NAME}.safetensors").unlink()
    again = train(data, tmp_path / "runs", resume=results["folder"], epochs=2)
    assert read_meta(Path(again["best"])).provenance == meta.provenance
    assert site.asked == [f"/{FILE}"]


def test_invalid_options_are_refused_before_anything_is_fetched(site: Site) -> None:
    check_train(TrainConfig(model=NAME, data="shapes.yaml"))
    check_predict(PredictConfig(model=NAME, iou=0.5), frozenset({"iou"}))  # NMS is used
    for config, said in (
        (TrainConfig(pretrained=True), "no permissive pretrained weights of yolo26n"),
        (TrainConfig(model=NAME, pretrained="yolo26s"), "yolo26s is a model without weights"),
        (TrainConfig(model="my.safetensors", pretrained=False), "wants none"),
        (TrainConfig(model=f"{NAME}.pth"), "model=yolox_nano downloads these weights"),
    ):
        with pytest.raises(UsageError, match=said):
            check_train(config)
    with pytest.raises(DownloadError, match="offline=True"):
        check_train(TrainConfig(model=NAME, offline=True))
    assert site.asked == []
