"""Scripts as people write them for Ultralytics: each runs with its import changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from exports import make_image, make_run, needs_onnx, write_data
from tracks import needs_trackers

BEST = "runs/train/weights/best.safetensors"
SCRIPTS = {
    "webcam": """
cap = cv2.VideoCapture("video.mp4")
model = YOLO(BEST)
frames = 0
while cap.isOpened():
    success, frame = cap.read()
    if not success:
        break
    results = model(frame, verbose=False)
    annotated = results[0].plot()
    assert annotated.shape == frame.shape
    frames += 1
cap.release()
assert frames == 6
""",
    "folder to csv": """
import csv
model = YOLO(BEST)
with open("found.csv", "w", newline="") as file:
    writer = csv.writer(file)
    for result in model.predict(source="images", conf=0.2, stream=True):
        for box in result.boxes:
            x1, y1, x2, y2 = box.xyxy[0].tolist()
            writer.writerow([result.path, result.names[int(box.cls)], float(box.conf), x1, y1])
assert len(Path("found.csv").read_text().splitlines()) > 8
""",
    "count per class": """
from collections import Counter
model = YOLO(BEST)
counts = Counter()
for r in model("images/*.png", conf=0.2):
    counts.update(model.names[int(c)] for c in r.boxes.cls)
assert sum(counts.values()) > 8 and set(counts) <= set(model.names.values())
""",
    "crops": """
model = YOLO(BEST)
image = cv2.imread("images/0.png")
for i, box in enumerate(model(image, conf=0.2)[0].boxes.xyxy.cpu().numpy().astype(int)):
    x1, y1, x2, y2 = box
    crop = image[y1:y2, x1:x2]
    assert crop.size == 0 or cv2.imwrite(f"crop{i}.png", crop)
assert list(Path().glob("crop*.png"))
""",
    "server with threads": """
from concurrent.futures import ThreadPoolExecutor
model = YOLO(BEST)
images = [cv2.imread(str(p)) for p in sorted(Path("images").glob("*.png"))]
batch = model.predict(images, batch=4, conf=0.2, device="cpu")
def answer(image):
    return [b.tolist() for b in model(image, conf=0.2, device="cpu")[0].boxes.xyxy]
with ThreadPoolExecutor(3) as pool:
    answers = list(pool.map(answer, images))
for r, boxes in zip(batch, answers):
    found = r.boxes.xyxy.numpy().reshape(-1, 4)
    np.testing.assert_allclose(found, np.reshape(boxes, (-1, 4)), atol=1e-3)
""",
    "callbacks that log": """
rows = []
def log(trainer):
    rows.append((trainer.epoch, trainer.metrics["metrics/mAP50-95(B)"]))
model = YOLO("yolo26n.yaml")
model.add_callback("on_fit_epoch_end", log)
model.train(data="data.yaml", epochs=2, imgsz=32, batch=4, workers=0, plots=False, device="cpu",
            amp=False, name="logged")
assert [epoch for epoch, _ in rows] == [0, 1]
""",
    "resume": """
model = YOLO("yolo26n.yaml")
options = dict(data="data.yaml", epochs=2, imgsz=32, batch=4, workers=0, plots=False, device="cpu",
               amp=False, name="stopped")
model.add_callback("on_model_save", lambda trainer: setattr(trainer, "stop", True))
first = model.train(**options)
assert first["epochs"] == 1
model = YOLO("runs/stopped/weights/last.pt")
results = model.train(resume=True, epochs=3)
assert results.results_dict["fitness"] >= 0 and Path("runs/stopped/results.csv").exists()
""",
    "export and run": """
model = YOLO(BEST)
path = model.export(format="onnx", imgsz=96)
onnx_model = YOLO(path)
a = model("images/0.png", conf=0.2, device="cpu")[0].boxes
b = onnx_model("images/0.png", conf=0.2)[0].boxes
np.testing.assert_allclose(a.xyxy.numpy(), b.xyxy.numpy(), atol=1e-2)
""",
    "validation per class": """
model = YOLO(BEST)
metrics = model.val(data="data.yaml", imgsz=96, plots=False, workers=0)
table = {}
for i, c in enumerate(metrics.box.ap_class_index):
    p, r, ap50, ap = metrics.box.class_result(i)
    table[model.names[int(c)]] = ap
assert set(table) == set(model.names.values()) and metrics.box.map > 0
""",
    "tracker with trails": """
from collections import defaultdict
model = YOLO(BEST)
cap = cv2.VideoCapture("video.mp4")
track_history = defaultdict(lambda: [])
while cap.isOpened():
    success, frame = cap.read()
    if not success:
        break
    result = model.track(frame, persist=True, conf=0.2)[0]
    if result.boxes and result.boxes.is_track:
        boxes = result.boxes.xywh.cpu()
        track_ids = result.boxes.id.int().cpu().tolist()
        frame = result.plot()
        for box, track_id in zip(boxes, track_ids):
            x, y, w, h = box
            track = track_history[track_id]
            track.append((float(x), float(y)))
            if len(track) > 30:
                track.pop(0)
            points = np.hstack(track).astype(np.int32).reshape((-1, 1, 2))
            cv2.polylines(frame, [points], isClosed=False, color=(230, 230, 230), thickness=10)
cap.release()
assert track_history
""",
    "draw and save": """
from PIL import Image
model = YOLO(BEST)
results = model(["images/0.png", "images/1.png"], conf=0.2)
for i, r in enumerate(results):
    im = Image.fromarray(r.plot()[..., ::-1])
    im.save(f"drawn{i}.jpg")
    r.save_txt(f"labels{i}.txt", save_conf=True)
    assert r.to_json().startswith("[")
assert Path("drawn1.jpg").exists() and Path("labels1.txt").read_text()
""",
}  # fmt: skip
NEEDS = {"export and run": needs_onnx, "tracker with trails": needs_trackers}
HEAD = "import cv2, numpy as np\nfrom pathlib import Path\nfrom yolodet import YOLO\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run, a data set of eight images and a video of six frames, as the current folder."""
    place = tmp_path_factory.mktemp("scripts")
    with pytest.MonkeyPatch.context() as patch:
        make_run(place, patch)
        write_data(place)
        video = cv2.VideoWriter("video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 96))
        for seed in range(6):
            video.write(make_image((96, 96), seed))
        video.release()
        yield place


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=NEEDS[n]) if n in NEEDS else n for n in SCRIPTS],
)
def test_a_script_runs_with_its_import_changed(folder: Path, name: str) -> None:
    exec(compile(HEAD + f"BEST = {BEST!r}\n" + SCRIPTS[name], name, "exec"), {})
