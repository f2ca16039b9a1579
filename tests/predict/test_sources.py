"""Sources: everything a user can name becomes the right frames, and what is wrong is named."""

import base64
import http.server
import math
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from rows import each
from yolodet.detector.predict import sources
from yolodet.detector.predict.sources import SourceError, open_source
from yolodet.detector.predict.video import VideoError, VideoReader, VideoWriter


def make_image(height=20, width=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_image(path, image=None):
    """Lossless where the suffix is: what is read must be what was written."""
    image = make_image(seed=len(path.name)) if image is None else image
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return image


def write_video(path, frames=10, fps=20.0, size=(48, 64)):
    """Frame k is a flat image of brightness 20 * k: frames can be told apart after compression."""
    writer = VideoWriter(path.with_suffix(""), fps=fps, size=size)
    for number in range(frames):
        writer.write(np.full((*size, 3), 20 * number, np.uint8))
    return writer.close()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(source):
    return [frame.path.name for frame in source]


def test_an_image_comes_as_rgb_with_its_path(here):
    image = write_image(here / "a.png")
    (frame,) = open_source("a.png")
    assert np.array_equal(frame.image, image) and frame.image.dtype == np.uint8
    assert (frame.path, frame.frame, frame.fps, frame.total) == (Path("a.png"), None, None, None)


def test_a_folder_gives_its_images_and_videos_sorted_and_no_more(here):
    for name in ("b.png", "a.JPG", "c.jpeg", ".hidden.png", "inner/d.png"):
        write_image(here / "in" / name)
    (here / "in" / "notes.txt").write_text("nothing.png")
    write_video(here / "in" / "aa.mp4", frames=2)
    source = open_source(here / "in")
    assert names(source) == ["a.JPG", "aa.mp4", "aa.mp4", "b.png", "c.jpeg"]
    assert len(source) == 5
    assert names(source) == names(source), "a source can be walked again"


def test_a_glob_is_sorted_and_can_be_recursive(here):
    for name in ("x2.png", "x1.png", "y.png", "deep/er/x0.png"):
        write_image(here / name)
    (here / "x3.txt").write_text("")
    assert names(open_source("x*")) == ["x1.png", "x2.png"]
    assert names(open_source("**/x[01].png")) == ["x0.png", "x1.png"]


def test_an_existing_file_wins_over_pattern_and_comma(here):
    for name in ("a[1].png", "a1.png", "b,c.png", "~.png"):
        write_image(here / name)
    assert names(open_source("a[1].png")) == ["a[1].png"]
    assert names(open_source("b,c.png")) == ["b,c.png"]
    assert names(open_source("~.png")) == ["~.png"]


def test_commas_and_lists_join_sources_in_order(here):
    for name in ("a.png", "b.png", "in/c.png"):
        write_image(here / name)
    array = make_image(seed=9)
    assert names(open_source("b.png, in ,a.png,")) == ["b.png", "c.png", "a.png"]
    frames = list(open_source(["b.png", Path("in"), array, array]))
    assert [f.path.name for f in frames] == ["b.png", "c.png", "array-2", "array-3"]
    assert np.array_equal(frames[3].image, array[:, :, ::-1]), "OpenCV reads BGR"


FORMS = {
    "bgr": lambda x: x[:, :, ::-1],
    "bgra": lambda x: np.dstack((x[:, :, ::-1], x[:, :, 0])),
    "16 bit": lambda x: x[:, :, ::-1].astype(np.uint16) * 257,
    "float 0..1": lambda x: x[:, :, ::-1].astype(np.float32) / 255,
    "float 0..255": lambda x: x[:, :, ::-1].astype(np.float64),
    "pil": Image.fromarray,
    "pil with alpha": lambda x: Image.fromarray(np.dstack((x, x[:, :, 0]))),
    "tensor": lambda x: torch.from_numpy(x).permute(2, 0, 1) / 255,
    "half tensor": lambda x: (torch.from_numpy(x).permute(2, 0, 1) / 255).half(),
    "uint8 tensor": lambda x: torch.from_numpy(x).permute(2, 0, 1),
}


@each("form", FORMS)
def test_images_in_memory_become_rgb(form):
    image = make_image(seed=3)
    (frame,) = open_source(FORMS[form](image), pixels="raw")
    assert np.array_equal(frame.image, image) and frame.image.dtype == np.uint8
    assert frame.path == Path("array-0")


def test_rgb_says_the_order_of_arrays_and_only_of_arrays():
    image = make_image(seed=3)
    alpha = np.dstack((image, image[:, :, 0]))
    sources = [image, alpha, image / 255, Image.fromarray(image),
               torch.from_numpy(image).permute(2, 0, 1)]
    assert all(np.array_equal(f.image, image) for f in open_source(sources, rgb=True))


@each("gray", [
    lambda x: x[:, :, 0], lambda x: x[:, :, :1], lambda x: Image.fromarray(x[:, :, 0]),
    lambda x: torch.from_numpy(x[None, None, :, :, 0]),
])
def test_gray_images_have_three_equal_channels(gray):
    image = make_image(seed=3)
    (frame,) = open_source(gray(image))
    assert np.array_equal(frame.image, np.dstack([image[:, :, 0]] * 3))


def test_a_batch_of_tensors_and_a_mixed_list_are_single_images(here):
    image = write_image(here / "a.png")
    batch = torch.stack([torch.from_numpy(image).permute(2, 0, 1)] * 2)
    frames = list(open_source([batch, "a.png", Image.open("a.png"), image[:, :, ::-1]]))
    assert [f.path.name for f in frames] == ["array-0", "array-1", "a.png", "a.png", "array-4"]
    assert all(np.array_equal(f.image, image) for f in frames)


def test_a_pil_image_is_turned_as_its_exif_says():
    image, exif = make_image(), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture = Image.fromarray(image)
    picture.getexif().update(exif)
    (frame,) = open_source(picture)
    assert np.array_equal(frame.image, np.rot90(image, -1))


@pytest.mark.parametrize("value", [-1.0, 255.5, math.nan])
def test_floats_outside_their_range_are_refused(value):
    with pytest.raises(SourceError, match=r"has values from .* floats in 0\.\.1 or 0\.\.255"):
        list(open_source(np.full((4, 4, 3), value)))


def test_a_list_file_looks_beside_itself_and_then_here(here):
    write_image(here / "lists" / "beside.png")
    write_image(here / "here.png")
    absolute = here / "far" / "absolute.png"
    write_image(absolute)
    text = f"\ufeffbeside.png\n\n  here.png  \r\n./beside.png\n{absolute}\n"
    (here / "lists" / "all.txt").write_text(text, encoding="utf-8")
    assert names(open_source("lists/all.txt")) == [
        "beside.png", "here.png", "beside.png", "absolute.png"]


def test_a_video_gives_numbered_rgb_frames(here):
    path = write_video(here / "clip.mp4", frames=7)
    frames = list(open_source(str(path)))
    assert [f.frame for f in frames] == list(range(7))
    assert {(f.fps, f.total, f.path) for f in frames} == {(20.0, 7, path)}
    brightness = [f.image.mean() for f in frames]
    assert np.allclose(brightness, [20 * k for k in range(7)], atol=6)


def test_vid_stride_keeps_the_numbers_and_the_playing_time(here):
    path = write_video(here / "clip.mp4", frames=10)
    source = open_source(path, vid_stride=4)
    frames = list(source)
    assert [f.frame for f in frames] == [0, 4, 8] and len(source) == 3
    assert frames[0].fps == 5.0
    assert np.allclose([f.image.mean() for f in frames], [0, 80, 160], atol=6)


def test_colors_survive_a_video(here):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 250
    writer = VideoWriter(here / "red", fps=5, size=(32, 32))
    writer.write(red)
    with VideoReader(writer.close()) as video:
        ((_, image),) = video.frames()
    assert image[..., 0].min() > 200 and image[..., 1:].max() < 50


def test_odd_sizes_are_written_whole_and_a_wrong_size_is_refused(here):
    writer = VideoWriter(here / "odd", fps=5, size=(33, 47))
    with pytest.raises(ValueError, match=r"\(34, 48\)"):
        writer.write(np.zeros((34, 48, 3), np.uint8))
    writer.write(np.full((33, 47, 3), 99, np.uint8))
    assert not (here / "odd.mp4").exists(), "the name appears when the video is complete"
    with VideoReader(writer.close()) as video:
        ((_, image),) = video.frames()
    assert image.shape == (34, 48, 3) and abs(int(image[-1, -1, 0]) - 99) < 6
    assert [p.name for p in here.iterdir()] == ["odd.mp4"]


def test_an_unreadable_image_among_others_is_reported_and_passed_over(here):
    write_image(here / "in" / "good.png")
    (here / "in" / "bad.png").write_bytes(b"not an image")
    (here / "in" / "bad.mp4").write_bytes(b"not a video")
    heard = []
    assert names(open_source("in", on_warning=heard.append)) == ["good.png"]
    assert len(heard) == 2 and "bad.mp4" in heard[0] and "bad.png" in heard[1]
    with pytest.warns(UserWarning) as warned:
        list(open_source("in"))
    assert [str(w.message) for w in warned] == heard


def test_a_video_cut_short_is_reported(here, monkeypatch):
    path = write_video(here / "clip.mp4", frames=5)
    whole = VideoReader.frames

    def cut(self, stride=1):
        return (pair for pair in whole(self, stride) if pair[0] < 2)

    monkeypatch.setattr(VideoReader, "frames", cut)
    heard = []
    assert len(list(open_source(path, on_warning=heard.append))) == 2
    assert heard == [f"{path}: video ends after frame 2 of 5"]


def test_a_lone_or_every_unreadable_source_is_an_error(here):
    (here / "bad.png").write_bytes(b"")
    (here / "bad2.png").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"bad\.png"):
        list(open_source("bad.png"))
    heard = []
    with pytest.raises(SourceError, match="none of the 2 sources can be read"):
        list(open_source(".", on_warning=heard.append))
    assert len(heard) == 2


WRONG = [
    ("", "source names nothing: expected an image, folder, glob pattern"),
    (" , ", "source names nothing"),
    ([], "source names nothing"),
    ("missing.jpg", "no such source: missing.jpg (looked in {here}); expected an image"),
    ("phot.png", "no such source: phot.png (looked in {here}); did you mean photo.png?"),
    ("no/where.jpg", "no such source: no/where.jpg (there is no folder {here}/no)"),
    ("photo.png,missing.jpg", "no such source: missing.jpg"),
    ("empty", "empty: no image or video in this folder; known are .avif .bmp .heic"),
    ("*.tif", "*.tif: matches nothing (looked from {here})"),
    ("*.dat", "*.dat: matches 1 file, none an image or video"),
    ("thing.dat", "thing.dat: unknown type of file; known are .avif"),
    ("blank.txt", "blank.txt: the list is empty; expected one image or video per line"),
    ("list.txt", "list.txt line 2: no such file: gone.png (looked in {here})"),
    ("list2.txt", "list2.txt line 1: thing.dat is no image or video"),
    ("binary.txt", "binary.txt: cannot be read as a list of paths"),
    ("ftp://host/a.jpg", "ftp://host: cannot be opened; known are http://, https://, rtmp://"),
    ("http:///a.jpg", "http://: cannot be opened"),
    ("http://[bad/a.jpg", "source is not a valid URL"),
    ("a\0b.jpg", "no such source: a\\x00b.jpg"),
    ("x" * 5000, "no such source: xxx"),
    (-1, "source is -1: expected an image"),
    (None, "source is None: expected an image"),
    (True, "source is True: expected"),
    (2.5, "source is 2.5: expected"),
    (b"a.png", "source is a bytes: expected"),
    ({"a.png"}, "source is a set: expected"),
    (np.zeros((4, 4, 3), np.int64), "array source is int64 of shape [4, 4, 3]: expected"),
    (np.zeros((4, 4, 2), np.uint8), "array source is uint8 of shape [4, 4, 2]: expected"),
    (torch.zeros(2, 4, 4, 3), "array source is float32 of shape [4, 4, 3]: expected"),
    (torch.zeros(3, 4, 4, dtype=torch.bool), "array source is bool"),
    (np.zeros((2, 4, 4, 3), np.uint8), "of shape [2, 4, 4, 3]"),
    (np.zeros((0, 4, 3), np.uint8), "of shape [0, 4, 3]"),
]


@each(("source", "message"), WRONG)
def test_a_wrong_source_is_refused_at_once_with_what_was_looked_for(here, source, message):
    write_image(here / "photo.png")
    (here / "empty").mkdir(exist_ok=True)
    (here / "thing.dat").write_text("x")
    (here / "blank.txt").write_text("\n \n")
    (here / "list.txt").write_text("photo.png\ngone.png\n")
    (here / "list2.txt").write_text("thing.dat\n")
    (here / "binary.txt").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(SourceError) as caught:
        open_source(source)
    assert message.format(here=here) in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_vid_stride_below_one_is_refused(here):
    with pytest.raises(ValueError, match="vid_stride is 0"):
        open_source(make_image(), vid_stride=0)


def test_a_digit_is_a_camera_even_beside_a_folder_of_that_name(here, monkeypatch):
    write_image(here / "0" / "a.png")
    assert names(open_source("./0")) == ["a.png"]
    opened = []

    def refuse(address, *, shown):
        opened.append((address, shown))
        raise VideoError(f"{shown}: cannot be opened")

    monkeypatch.setattr(sources, "VideoReader", refuse)
    source = open_source("0")
    assert source.total is None and bool(source)
    with pytest.raises(TypeError, match="not known"):
        len(source)
    with pytest.raises(SourceError, match="camera-0"):
        list(source)
    assert opened == [(0, "camera-0")]


@pytest.fixture
def server(here, monkeypatch):
    """Serves the folder ``here`` on this machine; .cgi files claim to be JPEG images, and what
    lies under /locked wants the user me with the password p@ss."""
    monkeypatch.setenv("no_proxy", "*")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {".png": "image/png", ".cgi": "image/jpeg", ".txt": "text/plain"}  # noqa: RUF012

        def log_message(self, *args):
            pass

        def send_head(self):
            token = base64.b64encode(b"me:p@ss").decode()
            sent = self.headers["Authorization"]
            if self.path.startswith("/locked") and sent != f"Basic {token}":
                self.send_error(401)
                return None
            return super().send_head()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_an_image_at_an_address_is_downloaded_and_decoded(here, server):
    image = write_image(here / "a b.png")
    (here / "shot.cgi").write_bytes((here / "a b.png").read_bytes())
    for address, name in (("a%20b.png?token=secret", "a_20b.png"), ("a b.png", "a_b.png")):
        (frame,) = open_source(f"{server}/{address}")
        assert np.array_equal(frame.image, image) and frame.path.name == name
    (frame,) = open_source(f"{server}/shot.cgi")  # no image suffix: the server answers it is one
    assert np.array_equal(frame.image, image)


@each(("address", "message"), [
    ("{server}/gone.png", "/gone.png: the server answers 404"),
    ("{server}/list.png", "/list.png: not an image that OpenCV can decode (5 bytes)"),
    ("{server}/big.png", "/big.png: larger than 0 MiB; not downloaded"),
    ("{server}/page.txt", "/page.txt: cannot be opened (no video stream there"),
    ("http://user:secret@127.0.0.1:1/a.png?key=secret", "/a.png: cannot be downloaded"),
    ("rtsp://user:secret@127.0.0.1:1/live?key=secret", "/live: cannot be opened"),
])
def test_an_address_without_an_image_is_named_without_its_secrets(
    here, server, monkeypatch, address, message
):
    monkeypatch.setattr(sources, "URL_LIMIT", 5)
    (here / "list.png").write_bytes(b"hello")
    (here / "big.png").write_bytes(b"hello!")
    (here / "page.txt").write_text("a page")
    with pytest.raises(SourceError) as caught:
        list(open_source(address.format(server=server)))
    assert message in str(caught.value) and "secret" not in str(caught.value)


def test_user_and_password_in_an_address_are_used(here, server):
    image = write_image(here / "locked" / "a.png")
    (frame,) = open_source(f"{server}/locked/a.png".replace("//", "//me:p%40ss@"))
    assert np.array_equal(frame.image, image)
    with pytest.raises(SourceError, match="the server answers 401"):
        list(open_source(f"{server}/locked/a.png"))


def test_a_video_at_an_address_is_streamed(here, server):
    write_video(here / "clip.mp4", frames=4)
    heard: list[str] = []
    frames = list(open_source(f"{server}/clip.mp4", on_warning=heard.append))
    assert not heard  # a file has an end
    assert [(f.frame, f.total) for f in frames] == [(k, None) for k in range(4)]
