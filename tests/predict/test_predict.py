"""Predictor: a small random detector finds what validation finds, in the image's own pixels."""

from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import torch
from rows import each
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.boxes import xywhn_to_xyxy
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images.image import read_image
from yolodet.datasets.nouns import Batch
from yolodet.detector.evaluate.class_names import GroundTruth
from yolodet.detector.evaluate.evaluator import evaluate
from yolodet.detector.models.build import build
from yolodet.detector.models.detector_like import ForwardOptions
from yolodet.detector.models.predictions import ONE_TO_ONE, Predictions
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.predict.predictor import Predictor
from yolodet.detector.predict.sources import open_source
from yolodet.detector.predict.video import VideoWriter
from yolodet.detector.predict.writer import Outputs, ResultWriter

CLASS_NAMES = ("clock", "kite", "bus")
IMAGE_SIZE = 96
CONF = 0.002
CPU = torch.device("cpu")
SETTINGS = {"conf": CONF, "iou": 0.5, "max_det": 20}
SIZES = {
    "wide.png": (40, 160), "tall.png": (150, 60), "small.jpg": (24, 31), "square.png": (96, 96)
}


def make_image(size, seed):
    """Soft patches of color, [H,W,3] uint8."""
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
    """A predictor; changes: of its own parameters, DetectOptions or ``autocast``."""
    own = {"class_names": CLASS_NAMES, "image_size": IMAGE_SIZE}
    own |= {n: changes.pop(n) for n in ("class_names", "image_size", "batch") if n in changes}
    forward = ForwardOptions(CPU, changes.pop("autocast", nullcontext))
    return Predictor(
        model, detect=DetectOptions(**{**SETTINGS, **changes}), forward=forward, **own
    )


@pytest.fixture
def folder(tmp_path):
    """Images of four aspect ratios with something to see."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        assert cv2.imwrite(str(folder / name), make_image(size, seed))
    return folder


def arrays(result):
    """Boxes [D,4], scores [D] and labels [D] of a Results."""
    boxes = result.boxes.numpy()
    return boxes.xyxy, boxes.conf, boxes.cls.astype(int)


def assert_same(one, other):
    """Up to the rounding of another order of sums; a wrong letterbox is off by whole pixels."""
    assert len(one) > 0
    (boxes, scores, labels), (other_boxes, other_scores, other_labels) = arrays(one), arrays(other)
    assert np.array_equal(labels, other_labels)
    assert np.allclose(scores, other_scores, atol=1e-4)
    assert np.allclose(boxes, other_boxes, atol=0.02)


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
    box, label = np.array([[1, 1, 9, 9]], np.float32), np.array([1])
    records = [Record(folder / name, size, box, label) for name, size in sorted(SIZES.items())]
    evaluation = evaluate(
        model, OneByOne(records), GroundTruth(records, CLASS_NAMES),
        DetectOptions(nms=nms, **SETTINGS), ForwardOptions(CPU))
    expected = evaluation.collector.coco_results()
    results = list(make_predictor(model, nms=nms).stream(open_source(folder)))
    assert [r.path for r in results] == [str(r.path) for r in records]
    ids = [index for index, r in enumerate(results) for _ in r.boxes.conf]
    assert ids == [row["image_id"] for row in expected] and len(set(ids)) == len(SIZES)
    assert np.concatenate([r.boxes.cls for r in results]).tolist() == [
        row["category_id"] for row in expected]
    scores = np.concatenate([r.boxes.conf for r in results])
    # up to the rounding of another batch, as in assert_same
    assert np.allclose(scores, [row["score"] for row in expected], atol=1e-4)
    first, last = np.split(np.concatenate([r.boxes.xyxy for r in results]), 2, axis=1)
    boxes = np.concatenate((first, last - first), axis=1)  # as COCO writes them
    assert np.allclose(boxes, [row["bbox"] for row in expected], atol=0.02)


@pytest.mark.parametrize("nms", [False, True])
def test_where_nothing_reaches_the_confidence_the_best_score_is_known(model, folder, nms):
    frames = list(open_source(folder))
    everything = list(make_predictor(model, conf=0.0, nms=nms, max_det=300).stream(frames))
    best = [float(result.boxes.conf[0]) for result in everything]
    assert all(result.best_score is None for result in everything)
    few = list(make_predictor(model, conf=max(best), nms=nms).stream(frames))
    assert sum(map(len, few)) > 0 and not all(map(len, few))
    for result, score in zip(few, best, strict=True):
        assert result.best_score == (None if len(result) else pytest.approx(score, abs=1e-6))


def test_boxes_are_in_the_pixels_of_the_original_image(folder):
    """A detector that always sees one box in the input: the letterbox must be undone exactly."""
    for name, (height, width) in SIZES.items():
        gain = IMAGE_SIZE / max(height, width)
        pad_x, pad_y = (IMAGE_SIZE - width * gain) / 2, (IMAGE_SIZE - height * gain) / 2
        original = np.array([2.0, 3.0, width - 4.0, height - 5.0])
        seen = original * gain + (pad_x, pad_y, pad_x, pad_y)
        predictor = make_predictor(Oracle(seen), max_det=1)
        (result,) = predictor.stream(open_source(folder / name))
        assert np.allclose(result.boxes.xyxy, original, atol=0.01), name
        assert result.boxes.data.dtype == torch.float32 and result.boxes.cls.tolist() == [1]


class Oracle(torch.nn.Module):
    """Answers every image with one kite at a fixed box of the input, score 0.9, and a bus, 0.8."""

    branches = (ONE_TO_ONE,)
    max_stride = 32
    num_classes = 3
    letterbox = "center"

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
    assert [r.path for r in four] == [str(path) for path in paths]
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
    assert result.boxes.cls.tolist() == [1]
    (result,) = make_predictor(Oracle(box), max_det=1, classes=(0, 2)).stream(image)
    assert result.boxes.cls.tolist() == [2] and np.allclose(result.boxes.conf, 0.8)
    (result,) = make_predictor(Oracle(box), conf=0.0, classes=(2,)).stream(image)
    assert result.boxes.cls.tolist() == [2], "a score of nothing is no detection"
    (result,) = make_predictor(Oracle(box), classes=()).stream(image)
    assert len(result) == 0


def test_conf_and_max_det_limit_what_is_found(model, folder):
    source = open_source(folder / "square.png")
    (many,) = make_predictor(model, max_det=20).stream(source)
    (few,) = make_predictor(model, max_det=3).stream(source)
    assert len(many) > 5 and np.array_equal(few.boxes.conf, many.boxes.conf[:3])
    middle = float(many.boxes.conf[4])
    (sure,) = make_predictor(model, conf=middle).stream(source)
    assert np.array_equal(sure.boxes.conf, many.boxes.conf[many.boxes.conf >= middle])


def test_autocast_is_entered_for_the_forward_pass(model, folder):
    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)

    source = open_source(folder / "wide.png")
    (exact,) = make_predictor(model).stream(source)
    (rough,) = make_predictor(model, autocast=autocast).stream(source)
    assert rough.boxes.data.dtype == torch.float32 and len(rough) > 0
    assert not np.array_equal(rough.boxes.conf, exact.boxes.conf)
    assert abs(rough.boxes.conf[0] - exact.boxes.conf[0]) < 0.1


@each(("changes", "message"), [
    ({"image_size": 100}, "image_size is 100: expected a multiple of 32, such as 128"),
    ({"image_size": 0}, "image_size is 0: expected a multiple of 32, such as 32"),
    ({"batch": 0}, "batch is 0"),
    ({"class_names": ("a", "b")}, "2 class names for a model of 3 classes"),
    ({"classes": (1, 3)}, "classes has 3: this model has classes 0 to 2"),
    ({"nms": True}, "nms=True reads the branch one_to_many"),
])
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_predictor(Oracle([0, 0, 1, 1]), **changes)


def test_frames_of_a_video_keep_their_numbers_and_rate(tmp_path, model):
    writer = VideoWriter(tmp_path / "clip", fps=10, size=(60, 80))
    for seed in range(5):
        writer.write(make_image((60, 80), seed))
    path = writer.close()
    results = list(make_predictor(model, batch=2).stream(open_source(path, vid_stride=2)))
    assert [(r.path, r.frame, r.source.fps, r.orig_shape) for r in results] == [
        (str(path), number, 5.0, (60, 80)) for number in (0, 2, 4)]
    assert all(set(r.speed) == {"preprocess", "inference", "postprocess"} for r in results)


def test_what_is_found_is_what_is_written(tmp_path, model, folder):
    out = tmp_path / "out"
    results = []
    with ResultWriter(out, Outputs(save_txt=True, save_crop=True)) as writer:
        for result in make_predictor(model).stream(open_source(folder)):
            writer.write(result)
            results.append(result)
    for result in results:
        drawn = read_image(out / result.source.path.name)
        assert drawn.shape == result.image.shape
        rows = np.loadtxt(out / "labels" / f"{result.source.path.stem}.txt", ndmin=2)
        assert np.array_equal(rows[:, 0], result.boxes.cls) and len(rows) > 0
        boxes = xywhn_to_xyxy(rows[:, 1:], result.orig_shape)
        assert np.allclose(boxes, result.boxes.xyxy, atol=0.005)
    assert len(list(out.glob("crops/*/*.jpg"))) == sum(len(r) for r in results)
    assert sorted(p.name for p in folder.iterdir()) == sorted(SIZES), "nothing beside the sources"
