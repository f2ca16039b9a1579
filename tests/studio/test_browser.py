"""The studio in a real browser: labels with keys only and with the mouse, and the whole way from a
data set to an export.  Skipped where there is no browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from browser import Page, resize, window
from exports import save_checkpoint
from studio_client import Client, opened
from tiny import use_tiny_detector, write_tiny_data
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.examine import label_errors
from yolodet.detector.examine.label_errors import LabelErrors
from yolodet.detector.examine.suspicions import Suspicion

SET = "own/data.yaml"
HTML = '<img src=x onerror="document.title=1">'
ARROWS = ("\ue012", "\ue013", "\ue014", "\ue015")
LEFT, UP, RIGHT, DOWN = ARROWS
SHIFT, CONTROL, DELETE = "\ue008", "\ue009", "\ue017"


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with window() as driver:
        yield driver


@pytest.fixture
def client(tmp_path: Path, driver: Any) -> Iterator[Client]:
    data = write_tiny_data(tmp_path / "own", train=8, val=4)
    about = yaml.safe_load(data.read_text())
    about["names"][1] = HTML
    data.write_text(yaml.safe_dump(about))
    with opened(tmp_path) as client:
        client.ready(SET)
        yield client


@pytest.fixture
def page(client: Client, driver: Any) -> Iterator[Page]:
    resize(driver, 1280, 860)
    page = Page(driver, client)
    page.open()
    yield page
    assert not page.complaints()


def image(client: Client, n: int, set: str = SET) -> dict[str, Any]:
    return client.get("/api/labels/image", set=set, n=n)


def settled(page: Page, steps: int, set: str = SET) -> None:
    """Wait until the studio knows of so many steps."""
    page.until(
        lambda: page.client.get("/api/labels/facts", set=set)["draft"]["at"] == steps,
        f"{steps} steps",
    )


def labeling(page: Page, n: int = 0) -> None:
    page.go(f"#/labels?set={SET}&n={n}")
    page.until(lambda: page.text("#image-name"), "the image")


def test_ten_labels_are_corrected_with_keys_only(page: Page, client: Client) -> None:
    before = [image(client, n)["boxes"] for n in range(12)]
    labeling(page)
    page.press("n")
    settled(page, 1)
    width, height = image(client, 0)["width"], image(client, 0)["height"]
    drawn = image(client, 0)["boxes"][-1]
    middle = [width * 3 / 8, height * 3 / 8, width * 5 / 8, height * 5 / 8]
    np.testing.assert_allclose(drawn[:4], middle, atol=0.01)

    def follows(box: Any) -> None:
        """Arrow keys are sent after a pause, so how many steps they are depends on the machine."""
        page.until(lambda: np.allclose(image(client, 0)["boxes"][-1][:4], box, atol=0.01), str(box))

    page.hold(CONTROL, RIGHT, RIGHT, DOWN)  # a pixel each
    moved = np.add(drawn[:4], [2, 1, 2, 1])
    follows(moved)
    page.hold(SHIFT, RIGHT, DOWN, DOWN)  # a hundredth of what is seen, at least a pixel
    moved += [0, 0, 1, 2]
    follows(moved)
    steps = image(client, 0)["draft"]["at"]
    for key, at, label in (("3", 1, 2), ("u", 0, drawn[4]), ("r", 1, 2)):
        page.press(key)
        settled(page, steps + at)
        assert image(client, 0)["boxes"][-1][4] == label
    steps += 1
    for n in range(1, 10):  # nine more images: delete the first box
        page.press("d")
        page.until(lambda n=n: f"n={n}" in page.js("return location.hash"), f"image {n}")
        page.press("j", DELETE)
        steps += bool(before[n])
        settled(page, steps)
        assert image(client, n)["boxes"] == before[n][1:]
    page.hold(CONTROL, "s")
    page.until(lambda: "labels%402" in page.js("return location.hash"), "the new version")
    data = Path(client.get("/api/sets")["folder"]) / "own/labels@2/data.yaml"
    dataset = load_dataset(data, download=False)
    saved = [r for s in dataset.splits for r in scan_split(dataset, s, strict=False).records]
    np.testing.assert_allclose(saved[0].boxes[-1], moved, atol=0.01)
    for n in range(1, 10):
        assert len(saved[n].boxes) == max(len(before[n]) - 1, 0)
    assert [r.boxes.tolist() for r in saved[10:]] == [
        [box[:4] for box in boxes] for boxes in before[10:]
    ]


def test_boxes_are_drawn_moved_and_resized_with_the_mouse(page: Page, client: Client) -> None:
    labeling(page)
    for _ in range(len(image(client, 0)["boxes"])):
        page.press("j", DELETE)
    steps = len(image(client, 0)["draft"]["steps"])
    width, height = image(client, 0)["width"], image(client, 0)["height"]

    def at(x: float, y: float) -> tuple[float, float]:
        """Where a place of the image is in the window."""
        return tuple(page.js(
            "const stage = document.querySelector('.label-stage');"
            "stage.scrollIntoView({block: 'center'});"
            "const p = new DOMPoint(arguments[0], arguments[1]);"
            "const q = p.matrixTransform(stage.getScreenCTM()); return [q.x, q.y]", x, y,
        ))  # fmt: skip

    def now(count: int) -> list[float]:
        settled(page, steps + count)
        return image(client, 0)["boxes"][-1][:4]

    box = [width * 0.2, height * 0.2, width * 0.5, height * 0.6]
    page.drag(at(*box[:2]), at(*box[2:]))
    np.testing.assert_allclose(now(1), box, atol=1)
    page.drag(at(width * 0.35, height * 0.4), at(width * 0.55, height * 0.5))
    box = np.add(box, [width * 0.2, height * 0.1] * 2).tolist()
    np.testing.assert_allclose(now(2), box, atol=1)
    page.drag(at(*box[2:]), at(width * 0.9, height * 0.95))
    np.testing.assert_allclose(now(3), [*box[:2], width * 0.9, height * 0.95], atol=1)
    page.drag(at(box[0], (box[1] + height * 0.95) / 2), at(5, 5))
    np.testing.assert_allclose(now(4), [5, box[1], width * 0.9, height * 0.95], atol=1)


def test_another_window_is_told_and_follows(page: Page, client: Client) -> None:
    labeling(page)
    page.one("#boxes li")
    seen = image(client, 0)["draft"]["revision"]
    client.post("/api/labels/edit", set=SET, n=0, boxes=[], what="elsewhere", revision=seen)
    page.press("n")
    page.until(lambda: "another window" in page.text("#status"), "the message")
    page.until(lambda: "no box" in page.text("#boxes"), "the labels as they are")
    assert image(client, 0)["boxes"] == []


def test_names_are_shown_as_text_on_every_page(page: Page) -> None:
    for hash in (f"#/data?set={SET}", f"#/labels?set={SET}"):
        page.go(hash)
        page.until(lambda: HTML in page.text("main"), HTML)
        assert not page.all("img[src=x]")


def test_the_chosen_images_move_to_another_split(page: Page, client: Client) -> None:
    page.go(f"#/data?set={SET}&split=val")
    page.choose("#move-to", "train")
    page.one("#move").click()
    page.until(lambda: "4 images moved" in page.text("#status"), "the message")
    draft = client.get("/api/labels/facts", set=SET)["draft"]
    assert [step["what"] for step in draft["steps"]] == ["moved 4 images to train"]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_pages_fit_the_window_and_can_be_read_by_everybody(
    page: Page, driver: Any, width: int, dark: bool
) -> None:
    """No page is wider than the window, and axe finds nothing serious."""
    resize(driver, width, 800, dark=dark)
    axe = None
    try:
        import axe_core_python
    except ImportError:
        pass
    else:
        folder = Path(axe_core_python.__file__).parent
        axe = next(folder.rglob("axe.min.js")).read_text()
    for hash in PAGES:
        page.go(hash)
        page.until(lambda: page.all("main h1") and not page.all("main progress"), hash)
        page.until(lambda: "Loading" not in page.text("main"), hash)
        wide = "return document.documentElement.scrollWidth - innerWidth"
        page.until(lambda wide=wide: page.js(wide) <= 0, f"a narrow {hash}")
        if axe is not None:
            page.js(axe)
            found = driver.execute_async_script(
                "const done = arguments[0];"
                "axe.run().then(r => done(r.violations.map(v => [v.impact, v.id])))"
            )
            assert not [one for one in found if one[0] in ("serious", "critical")], hash


PAGES = (
    "#/data",
    f"#/data?set={SET}",
    "#/labels",
    f"#/labels?set={SET}",
    "#/runs",
    "#/runs?new=1",
    "#/try",
)


def test_boxes_follow_conf_at_once(
    page: Page, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkpoints side by side, on images of a data set and on a picture that is chosen."""
    use_tiny_detector(monkeypatch)
    folder = Path(client.get("/api/sets")["folder"])
    save_checkpoint(folder)
    (folder / "other").mkdir()
    save_checkpoint(folder / "other", class_names=(HTML, "y", "z"))
    page.go(f"#/try?a=best.safetensors&b=other/best.safetensors&set={SET}&split=val")
    page.until(lambda: len(page.all(".try-stage")) == 2, "two pictures")
    told = client.get("/api/try/image", set=SET, split="val", k=0, a="best.safetensors")
    shown = "return document.querySelectorAll('#stage-a rect.box:not(.truth)').length"
    requests = "return performance.getEntriesByType('resource').length"
    before = page.js(requests)
    for conf in (0.01, 0.3, 0.05, 0.99):
        page.js(
            "const s = document.getElementById('conf'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input'))", conf,
        )  # fmt: skip
        assert page.js(shown) == sum(one["score"] >= conf for one in told["a"])
    assert page.js(requests) <= before + 2  # the pictures at most: nothing is predicted again
    page.js("const s = document.getElementById('conf'); s.value = 0.01; s.oninput?.()")
    page.one("#next").click()
    page.until(lambda: "(2 of 4)" in page.text("#image-name"), "the next image")
    file = next((folder / "own/images/val").iterdir())
    page.one("#file").send_keys(str(file))
    page.until(lambda: "your picture" in page.text("#image-name"), "the picture")
    assert len(page.all(".try-stage")) == 2 and not page.all("img[src=x]")


def test_a_suspicion_is_accepted_undone_and_ignored(
    page: Page, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    folder = Path(client.get("/api/sets")["folder"])
    save_checkpoint(folder)
    before = image(client, 0)
    path = folder / "own" / before["name"]
    missing = Suspicion(path, "missing", 0.9, None, None, None, (1.0, 2.0, 30.0, 40.0), 1)
    told = LabelErrors([missing], [], (), True)
    monkeypatch.setattr(label_errors, "label_errors", lambda config, log: told)
    page.go(f"#/errors?set={SET}")
    page.one("#search").click()
    page.one(".accept").click()
    settled(page, 1)
    assert image(client, 0)["boxes"] == [*before["boxes"], [1.0, 2.0, 30.0, 40.0, 1]]
    page.until(lambda: page.text("#total") == "0 suspicions", "nothing left")
    page.one("#undo").click()
    page.until(lambda: page.text("#total") == "1 suspicion", "it is open again")
    assert image(client, 0)["boxes"] == before["boxes"]
    page.one(".ignore").click()
    page.until(lambda: "ignored (1)" in page.text("#told"), "it is ignored")


@pytest.mark.slow
def test_from_a_filter_to_a_trained_and_exported_version(page: Page, client: Client) -> None:
    """Browse, filter, correct, train on the version and on the old labels, watch, compare."""
    page.go(f"#/data?set={SET}")
    page.one(".facet .value")
    page.one(".facet .value[title=train]").click()
    page.until(lambda: "split=train" in page.js("return location.hash"), "the filter")
    page.one("#label-these").click()
    page.until(lambda: page.text("#total") == "8 images", "the chosen images")
    page.press("n")
    settled(page, 1)
    page.one("#save").click()
    page.until(lambda: "labels%402" in page.js("return location.hash"), "the new version")
    second = "own/labels@2/data.yaml"
    client.ready(second)
    for run, data in enumerate((SET, second), 1):
        page.go("#/runs?new=1")
        page.choose("#o-data", data)
        for name, value in (("model", "yolo26n"), ("epochs", "2"), ("imgsz", "64"), ("batch", "4"),
                            ("amp", "False"), ("workers", "0")):  # fmt: skip
            page.js(
                "const f = document.getElementById('o-' + arguments[0]);"
                "f.closest('details').open = true; f.value = arguments[1];", name, value,
            )  # fmt: skip
        page.one("button.main").click()
        page.until(lambda: page.text("main h1") == "Runs", "the list")
        page.until(lambda run=run: page.text("tbody").count("finished") == run, "the training")
    page.until(lambda: "polyline" in page.js("return document.querySelector('.charts').innerHTML"))
    for box in range(2):
        page.one(f"#pick-{box}").click()
        page.until(lambda box=box: len(page.all("tbody input:checked")) == box + 1, "the choice")
    page.until(lambda: len(page.all(".chart:first-child polyline")) == 2, "two curves")
    page.go(f"#/labels?set={second}")
    page.one("#versions summary").click()
    page.choose("#export-format", "voc")
    page.js("document.getElementById('export-out').value = 'exported'")
    page.one("#export").click()
    page.until(lambda: "exported/data.yaml" in page.text("#status"), "the export")
    folder = Path(client.get("/api/sets")["folder"])
    assert len(list((folder / "exported/annotations").rglob("*.xml"))) == 12
