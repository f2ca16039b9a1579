"""Prediction end to end with a small random detector: boxes, files and manners."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from yolodet.datasets.boxes import xyxy_to_xywh
from yolodet.datasets.dataset import DetectionDataset
from yolodet.datasets.formats.record import Record
from yolodet.datasets.formats.yolo import read_labels
from yolodet.datasets.image import read_image
from yolodet.datasets.sample import Batch
from yolodet.detector.evaluate.evaluator import evaluate
from yolodet.detector.models.build import build
from yolodet.detector.models.predictions import ONE_TO_ONE, Predictions
from yolodet.detector.predict.predictor import Predictor
from yolodet.detector.predict.results import Result, ResultWriter, crop_box
from yolodet.detector.predict.sources import open_source
from yolodet.detector.predict.video import VideoReader, VideoWriter

CLASS_NAMES = ("clock", "kite", "bus")
IMAGE_SIZE = 96
CONF = 0.002
SIZES = {
    "wide.png": (40, 160), "tall.png": (150, 60), "small.jpg": (24, 31), "square.png": (96, 96)
}


def make_image(size, seed):
    """Soft patches of colour, [H,W,3] uint8."""
    patches = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(patches, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def model():
    """A real detector with random weights, made lively enough to tell anchors apart."""
    torch.manual_seed(0)
    model = build("yolo26n", len(CLASS_NAMES)).train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # take the statistics of the one batch below
        model(torch.from_numpy(np.stack([make_image((96, 96), seed) for seed in range(8)]))
              .permute(0, 3, 1, 2))
        for branch in model.branches:
            head = model.head.get_submodule(branch)
            for boxes, classes in zip(head.boxes, head.classes, strict=True):
                boxes[-1].weight.mul_(0.5)
                classes[-1].weight.normal_(0, 0.4)
    return model.eval()


def make_predictor(model, **changes):
    settings = {"image_size": IMAGE_SIZE, "device": "cpu", "nms": False, "conf": CONF, "iou": 0.5,
                "max_det": 20, "agnostic_nms": False, "class_names": CLASS_NAMES}
    return Predictor(model, **(settings | changes))


@pytest.fixture
def folder(tmp_path):
    """Images of four aspect ratios with something to see."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        assert cv2.imwrite(str(folder / name), make_image(size, seed))
    return folder


def make_result(boxes, labels=None, scores=None, size=(40, 60), path="a.png", frame=None, fps=None):
    rng = np.random.default_rng(1)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    scores = np.array([0.5] * len(boxes) if scores is None else scores, np.float32)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    speed = {"pre": 1.0, "inference": 10.0, "post": 1.34}
    return Result(Path(path), frame, image, boxes, scores, labels, CLASS_NAMES, speed, fps)


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def assert_same(one, other):
    """Up to the rounding of another order of sums; a wrong letterbox is off by whole pixels."""
    assert np.array_equal(one.labels, other.labels) and len(one) > 0
    assert np.allclose(one.scores, other.scores, atol=1e-4)
    assert np.allclose(one.boxes, other.boxes, atol=0.02)


# --- Predictor


class OneByOne:
    """A loader of validation samples, one image a batch."""

    def __init__(self, records):
        self.dataset = DetectionDataset(records, IMAGE_SIZE, augment=None)

    def __len__(self):
        return len(self.dataset)

    def epoch(self, epoch):
        for index in range(len(self)):
            sample = self.dataset[epoch, index, 0]
            yield Batch(
                images=torch.from_numpy(sample.image[None]).permute(0, 3, 1, 2),
                boxes=torch.from_numpy(sample.boxes), labels=torch.from_numpy(sample.labels),
                batch_index=torch.zeros(len(sample.labels), dtype=torch.int64), indices=[index],
                paths=[sample.path], original_sizes=[sample.original_size],
                letterboxes=[sample.letterbox])


@pytest.mark.parametrize("nms", [False, True])
def test_detections_are_those_of_validation_on_the_same_images(model, folder, nms):
    settings = {"nms": nms, "conf": CONF, "iou": 0.5, "max_det": 20, "agnostic_nms": False}
    box, label = np.array([[1, 1, 9, 9]], np.float32), np.array([1])
    records = [Record(folder / name, size, box, label) for name, size in sorted(SIZES.items())]
    evaluation = evaluate(
        model, OneByOne(records), records, CLASS_NAMES, device=torch.device("cpu"),
        autocast=nullcontext, channels_last=True, **settings)
    expected = evaluation.collector.coco_results()
    results = list(make_predictor(model, **settings).stream(open_source(folder)))
    assert [r.path for r in results] == [r.path for r in records]
    ids = [index for index, r in enumerate(results) for _ in r.scores]
    assert ids == [row["image_id"] for row in expected] and len(set(ids)) == len(SIZES)
    assert np.concatenate([r.labels for r in results]).tolist() == [
        row["category_id"] for row in expected]
    scores = np.concatenate([r.scores for r in results])
    assert np.allclose(scores, [row["score"] for row in expected], atol=1e-5)
    boxes = xyxy_to_xywh(np.concatenate([r.boxes for r in results]))
    assert np.allclose(boxes, [row["bbox"] for row in expected], atol=1e-3)


def test_boxes_are_in_the_pixels_of_the_original_image(folder):
    """A detector that always sees one box in the input: the letterbox must be undone exactly."""
    for name, (height, width) in SIZES.items():
        gain = IMAGE_SIZE / max(height, width)
        pad_x, pad_y = (IMAGE_SIZE - width * gain) / 2, (IMAGE_SIZE - height * gain) / 2
        original = np.array([2.0, 3.0, width - 4.0, height - 5.0])
        seen = original * gain + (pad_x, pad_y, pad_x, pad_y)
        predictor = make_predictor(Oracle(seen), max_det=1)
        (result,) = predictor.stream(open_source(folder / name))
        assert np.allclose(result.boxes, original, atol=0.01), name
        assert result.boxes.dtype == np.float32 and result.labels.tolist() == [1]


class Oracle(torch.nn.Module):
    """Answers every image with one kite at a fixed box of the input, score 0.9, and a bus, 0.8."""

    branches = (ONE_TO_ONE,)
    max_stride = 32
    num_classes = 3

    def __init__(self, box):
        super().__init__()
        box = torch.tensor(box, dtype=torch.float32)
        self.points = ((box[:2] + box[2:]) / 2)[None]
        self.sides = torch.cat((self.points[0] - box[:2], box[2:] - self.points[0]))

    def forward(self, images, branches):
        assert images.dtype == torch.uint8 and branches == self.branches
        count = len(images)
        logits = torch.logit(torch.tensor([0.01, 0.9, 0.8])).expand(count, 1, 3)
        distances = self.sides.expand(count, 1, 4)
        return {ONE_TO_ONE: Predictions(logits, distances, self.points, torch.ones(1))}


def test_batches_change_nothing_and_keep_the_order(model, folder):
    paths = [folder / name for name in (*SIZES, "wide.png", "tall.png")]
    one = list(make_predictor(model, batch=1).stream(open_source(paths)))
    four = list(make_predictor(model, batch=4).stream(open_source(paths)))
    assert [r.path for r in four] == paths
    for a, b in zip(one, four, strict=True):
        assert_same(a, b)


def test_the_stream_takes_no_more_than_a_batch_ahead(model):
    taken = []

    def frames():
        for frame in open_source([np.zeros((8, 8, 3), np.uint8)] * 6):
            taken.append(frame)
            yield frame

    stream = make_predictor(model, batch=2).stream(frames())
    assert taken == []
    next(stream)
    assert len(taken) == 2


def test_unwanted_classes_do_not_use_up_max_det():
    box = [10.0, 10.0, 50.0, 60.0]
    image = open_source(np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8))
    (result,) = make_predictor(Oracle(box), max_det=1).stream(image)
    assert result.labels.tolist() == [1]
    (result,) = make_predictor(Oracle(box), max_det=1, classes={0, 2}).stream(image)
    assert result.labels.tolist() == [2] and np.allclose(result.scores, 0.8)
    (result,) = make_predictor(Oracle(box), conf=0.0, classes={2}).stream(image)
    assert result.labels.tolist() == [2], "a score of nothing is no detection"
    (result,) = make_predictor(Oracle(box), classes=set()).stream(image)
    assert len(result) == 0


def test_conf_and_max_det_limit_what_is_found(model, folder):
    source = open_source(folder / "square.png")
    (many,) = make_predictor(model, max_det=20).stream(source)
    (few,) = make_predictor(model, max_det=3).stream(source)
    assert len(many) > 5 and np.array_equal(few.scores, many.scores[:3])
    middle = float(many.scores[4])
    (sure,) = make_predictor(model, conf=middle).stream(source)
    assert np.array_equal(sure.scores, many.scores[many.scores >= middle])


def test_autocast_is_entered_for_the_forward_pass(model, folder):
    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)

    source = open_source(folder / "wide.png")
    (exact,) = make_predictor(model).stream(source)
    (rough,) = make_predictor(model, autocast=autocast).stream(source)
    assert rough.boxes.dtype == np.float32 and len(rough) > 0
    assert not np.array_equal(rough.scores, exact.scores)
    assert abs(rough.scores[0] - exact.scores[0]) < 0.1


@pytest.mark.parametrize(("changes", "message"), [
    ({"image_size": 100}, "image_size is 100: expected a multiple of 32, such as 128"),
    ({"image_size": 0}, "image_size is 0: expected a multiple of 32, such as 32"),
    ({"batch": 0}, "batch is 0"),
    ({"class_names": ("a", "b")}, "2 class names for a model of 3 classes"),
    ({"classes": {1, 3}}, "classes has 3: this model knows 0 to 2"),
    ({"nms": True}, "nms=True reads the branch one_to_many"),
])
def test_settings_that_can_not_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_predictor(Oracle([0, 0, 1, 1]), **changes)


# --- Result


def test_summary_counts_in_words():
    result = make_result([[0, 0, 9, 9]] * 6, labels=[1, 0, 2, 0, 2, 0])
    assert result.summary() == "60x40 3 clocks, 1 kite, 2 buses 12.3 ms"
    assert make_result([]).summary() == "60x40 no detections 12.3 ms"
    named = replace(result, class_names=("glass", "scissors", "person"))
    assert named.summary().startswith("60x40 3 glasses, 1 scissors, 2 persons ")


def test_dicts_are_json_ready_and_named():
    result = make_result([[1.5, 2, 30.25, 40]], labels=[1], scores=[0.123456789])
    assert json.loads(json.dumps(result.to_dicts())) == [{
        "name": "kite", "class": 1, "confidence": 0.12346,
        "box": {"x1": 1.5, "y1": 2.0, "x2": 30.25, "y2": 40.0}}]


def test_label_rows_read_back_are_the_same_boxes(tmp_path):
    rng = np.random.default_rng(0)
    size = (1080, 1920)
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1) * size[::-1]
    boxes = np.concatenate((corners.reshape(-1, 4), [[0, 0, 1920, 1080]])).astype(np.float32)
    labels = rng.integers(0, 3, len(boxes))
    scores = np.linspace(1, 0.1, len(boxes))
    result = make_result(boxes, labels, scores, size=size)
    with ResultWriter(tmp_path, save=False, save_txt=True) as writer:
        writer.write(result)
    back, ids, findings = read_labels(tmp_path / "labels" / "a.txt", size=size, num_classes=3)
    assert findings == [] and np.array_equal(ids, labels)
    assert np.allclose(back, boxes, atol=0.005)
    assert [float(row.split()[5]) for row in result.to_rows(with_scores=True)] == pytest.approx(
        scores.tolist(), abs=1e-6)


def test_drawing_leaves_the_image_alone_and_marks_the_box():
    result = make_result([[10, 10, 40, 30]])
    before = result.image.copy()
    drawn = result.draw(2)
    assert np.array_equal(result.image, before) and drawn.shape == before.shape
    changed = (drawn != before).any(-1)
    assert changed[12:38 - 10, 10].mean() > 0.9 and not changed[36:, 50:].any()


@pytest.mark.parametrize(("box", "shape"), [
    ([-5, -5, 10.2, 8.0], (8, 11)), ([-9, 5, -3, 9], (4, 0)),
    ([55.5, 35.5, 99, 99], (5, 5)), ([3.2, 4.7, 3.4, 4.8], (1, 1)),
])
def test_crops_stay_within_the_borders(box, shape):
    assert crop_box(np.zeros((40, 60, 3), np.uint8), np.array(box)).shape[:2] == shape


# --- ResultWriter


def test_everything_is_written_under_the_name_of_its_source(tmp_path, model, folder):
    out = tmp_path / "out"
    results = list(make_predictor(model, max_det=2).stream(open_source(folder)))
    writer = ResultWriter(out, save_txt=True, save_conf=True, save_json=True, save_crop=True)
    assert not out.exists()
    with writer:
        for result in results:
            writer.write(result)
        assert not (out / "predictions.json").exists(), "named when complete"
    pictures = ["small.jpg", "square.png", "tall.png", "wide.png"]
    labels = [f"labels/{Path(name).stem}.txt" for name in pictures]
    crops = [f"crops/{r.class_names[r.labels[k]]}/{r.path.stem}-{k + 1}.jpg"
             for r in results for k in range(len(r))]
    assert tree(out) == sorted([*pictures, *labels, *crops, "predictions.json"])
    assert sorted(writer.paths) == sorted(out / name for name in tree(out))
    for result in results:
        assert read_image(out / result.path.name).shape == result.image.shape
    assert np.array_equal(read_image(out / "wide.png"), results[-1].draw())
    rows = json.loads((out / "predictions.json").read_text())
    assert rows == [
        {"path": str(r.path), "frame": None, "width": r.size[1], "height": r.size[0],
         "detections": r.to_dicts()} for r in results]
    assert tree(tmp_path / "in") == sorted(SIZES), "nothing beside the sources"


def test_sources_of_equal_stem_get_numbers(tmp_path):
    with ResultWriter(tmp_path, save_txt=True) as writer:
        for path in ("x/a.png", "y/a.jpg", "x/a-2.png", "z/A.png", "x/a.png"):
            writer.write(make_result([], path=path))
    assert tree(tmp_path) == sorted([
        "a.png", "a-2.jpg", "a-2-2.png", "A-3.png", "a-4.png", "labels/a.txt", "labels/a-2.txt",
        "labels/a-2-2.txt", "labels/A-3.txt", "labels/a-4.txt"])


def test_names_are_kept_apart_also_where_only_crops_are_written(tmp_path):
    with ResultWriter(tmp_path, save=False, save_crop=True) as writer:
        for path in ("x/a.png", "y/a.png", "x/a-2.png"):
            writer.write(make_result([[1, 2, 3, 4]], path=path))
    assert tree(tmp_path / "crops" / "clock") == ["a-1.jpg", "a-2-1.jpg", "a-2-2-1.jpg"]


def test_the_users_files_in_the_folder_are_never_replaced(tmp_path, model, folder):
    """The sources lie in the output folder itself, beside labels, crops and JSON of the user."""
    mine = {"labels/tall.txt": "0 0.5 0.5 1 1", "predictions.json": "{}",
            "crops/clock/wide-2-1.jpg": "x", "labels/loose.txt": "", "square.avi": "y"}
    for name, text in mine.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = {name: (folder / name).read_bytes() for name in tree(folder)}
    everything = {"save_txt": True, "save_json": True, "save_crop": True}
    for _ in range(2):
        with ResultWriter(folder, **everything) as writer:
            for name in SIZES:
                for result in make_predictor(model).stream(open_source(folder / name)):
                    writer.write(replace(result, labels=result.labels * 0))
        assert {name: (folder / name).read_bytes() for name in before} == before
        assert all(path.exists() for path in writer.paths)
    made = set(tree(folder)) - set(before)
    assert {"wide-2.png", "wide-3.png", "predictions-2.json", "predictions-3.json",
            "labels/tall-2.txt", "crops/clock/wide-2-1-2.jpg"} <= made
    assert not [name for name in tree(folder) if ".part" in name]


def test_class_names_can_not_lead_out_of_the_folder(tmp_path):
    result = make_result([[0, 0, 9, 9]] * 4, labels=[0, 1, 2, 3])
    result = replace(result, class_names=("../up", "a/b", "..", "été 1"))
    out = tmp_path / "out"
    with ResultWriter(out, save=False, save_crop=True) as writer:
        writer.write(result)
    assert tree(tmp_path) == [
        "out/crops/_/a-3.jpg", "out/crops/_up/a-1.jpg", "out/crops/a_b/a-2.jpg",
        "out/crops/été 1/a-4.jpg"]


def test_a_video_becomes_one_video_of_the_same_length(tmp_path, model):
    source = VideoWriter(tmp_path / "clip", fps=10, size=(60, 80))
    for number in range(6):
        source.write(np.full((60, 80, 3), 40 * number, np.uint8))
    path = source.close()
    before = path.read_bytes()
    out = tmp_path / "out"
    frames = open_source([path, path], vid_stride=2)
    with ResultWriter(out, save_txt=True, save_json=True) as writer:
        for result in make_predictor(model, max_det=1, batch=4).stream(frames):
            writer.write(result)
    numbers = (0, 2, 4)
    assert tree(out) == sorted([
        "clip.mp4", "clip-2.mp4", "predictions.json",
        *(f"labels/{name}_{k}.txt" for name in ("clip", "clip-2") for k in numbers)])
    for name in ("clip.mp4", "clip-2.mp4"):
        with VideoReader(out / name) as video:
            assert video.fps == 5 and len(list(video.frames())) == 3
    assert [row["frame"] for row in json.loads((out / "predictions.json").read_text())] == [
        *numbers, *numbers]
    assert path.read_bytes() == before


def test_a_stream_that_changes_its_size_goes_on_in_a_new_video(tmp_path):
    with ResultWriter(tmp_path) as writer:
        for number, size in enumerate([(32, 32), (32, 32), (48, 32)]):
            writer.write(make_result([], size=size, path="cam", frame=number))
    assert tree(tmp_path) == ["cam-2.mp4", "cam.mp4"]


def test_an_interrupted_run_leaves_whole_files(tmp_path):
    with pytest.raises(KeyboardInterrupt), ResultWriter(tmp_path, save_json=True) as writer:
        writer.write(make_result([[1, 2, 3, 4]], path="clip.mp4", frame=0))
        raise KeyboardInterrupt
    assert tree(tmp_path) == ["clip.mp4", "predictions.json"]
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1
    with VideoReader(tmp_path / "clip.mp4") as video:
        assert len(list(video.frames())) == 1


def test_nothing_asked_for_writes_nothing(tmp_path):
    with ResultWriter(tmp_path / "out", save=False) as writer:
        writer.write(make_result([[1, 2, 3, 4]]))
    assert not (tmp_path / "out").exists()
