"""Folders as annotation tools lay them out, in dialects, each with the same box in every image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_data import add_image

BOX = (10, 5, 40, 30)
"""The box of every image, x1 y1 x2 y2, in 64 x 48 pixels.  Its class is cat."""
KITTI = "cat 0.00 0 1.85 10 5 40 30 1.5 1.6 3.7 -1.7 2.3 13.2 1.8\n"
DOTA = "10 5 40 5 40 30 10 30 cat"
CVAT_BOX = 'xtl="10" ytl="5" xbr="40" ybr="30"'
CVAT_LABELS = "<meta><task><labels><label><name>cat</name></label></labels></task></meta>"


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def images(root: Path, *names: str) -> None:
    for name in names:
        add_image(root / name, (48, 64), None)


def labelme(image: str, **more: Any) -> dict[str, Any]:
    shape = {"label": "cat", "points": [[40, 30], [10, 5]], "shape_type": "rectangle"}
    size = {"imagePath": image, "imageHeight": 48, "imageWidth": 64}
    return {"shapes": [shape], **size, **more}


def labelme_splits(root: Path) -> None:
    for split in ("train", "val"):
        images(root, f"{split}/a.jpg")
        write(root / split / "a.json", labelme("a.jpg"))


def labelme_apart(root: Path) -> None:
    images(root, "pictures/a.jpg")
    write(root / "json/a.json", labelme("..\\pictures\\a.jpg"))


def labelme_with_the_picture(root: Path) -> None:
    images(root, "a.jpg")
    write(root / "a.json", {"imageData": "x" * 5_000_000, **labelme("a.jpg")})


def label_studio(root: Path) -> None:
    images(root, "images/0a1b-a.jpg")
    shape = {"x": 100 * 10 / 64, "y": 100 * 5 / 48, "width": 100 * 30 / 64, "height": 100 * 25 / 48}
    shape |= {"rotation": 0, "rectanglelabels": ["cat"]}
    sizes = {"original_width": 64, "original_height": 48}
    task = {"id": 1, "image": "/data/upload/1/0a1b-a.jpg", "label": [{**shape, **sizes}]}
    write(root / "min.json", [{**task, "annotator": 1, "annotation_id": 1, "lead_time": 2.0}])


def via(attributes: dict[str, Any], version: int = 2) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        images(root, "a.jpg")
        shape = {"name": "rect", "x": 10, "y": 5, "width": 30, "height": 25}
        region = {"shape_attributes": shape, "region_attributes": attributes}
        regions = {"0": region} if version == 1 else [region]
        write(root / "via.json", {"a.jpg123": {"filename": "a.jpg", "regions": regions}})

    return make


def via_csv(root: Path) -> None:
    images(root, "a.jpg")
    head = "filename,file_size,file_attributes,region_count,region_id,"
    shape = '"{""name"":""rect"",""x"":10,""y"":5,""width"":30,""height"":25}"'
    row = f'a.jpg,1,"{{}}",1,0,{shape},"{{""type"":""cat""}}"\n'
    write(root / "via.csv", f"{head}region_shape_attributes,region_attributes\n{row}")


def createml(root: Path) -> None:
    place = {"x": 25, "y": 17.5, "width": 30, "height": 25}
    for split in ("train", "valid"):
        images(root, f"{split}/a.jpg")
        rows = [{"label": "cat", "coordinates": place}]
        write(root / split / "a.json", [{"imagefilename": "a.jpg", "annotation": rows}])
        text = (root / split / "a.json").read_text().replace('"annotation"', '"annotations"')
        (root / split / "a.json").write_text(text.replace("imagefilename", "image"))


def cvat(root: Path) -> None:
    images(root, "images/Train/a.jpg", "images/Validation/a.jpg")
    rows = "".join(
        f'<image id="{n}" name="a.jpg" subset="{subset}" width="64" height="48">'
        f'<box label="cat" {CVAT_BOX}/></image>'
        for n, subset in enumerate(("Train", "Validation"))
    )
    write(root / "annotations.xml", f"<annotations>{CVAT_LABELS}{rows}</annotations>")


def cvat_video(root: Path) -> None:
    images(root, "images/frame_000000.png", "images/frame_000007.png")
    boxes = "".join(
        f'<box frame="{frame}" outside="{int(frame == 8)}" keyframe="1" {CVAT_BOX}/>'
        for frame in (0, 7, 8)
    )
    track = f'<track id="0" label="cat">{boxes}</track>'
    size = "<original_size><width>64</width><height>48</height></original_size>"
    labels = CVAT_LABELS.replace("</task>", f"{size}</task>")
    write(root / "annotations.xml", f"<annotations>{labels}{track}</annotations>")


def kitti(root: Path) -> None:
    images(root, "training/image_2/000001.png")
    write(root / "training/label_2/000001.txt", KITTI)


def dota(text: str, labels: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for split in ("train", "val"):
            images(root, f"{split}/images/P1.png")
            write(root / split / labels / "P1.txt", text)

    return make


def supervisely(root: Path) -> None:
    images(root, "ds0/img/a.png")
    points = {"exterior": [[10, 5], [39, 29]], "interior": []}
    row = {"classTitle": "cat", "geometryType": "rectangle", "points": points}
    write(root / "ds0/ann/a.json", {"size": {"height": 48, "width": 64}, "objects": [row]})
    write(root / "meta.json", {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []})


def open_images(root: Path) -> None:
    images(root, "images/a.jpg")
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded"
    shares = ",".join(f'"{n / d:.10f}"' for n, d in ((10, 64), (40, 64), (5, 48), (30, 48)))
    write(root / "boxes.csv", f"{head}\na.jpg,,cat,,{shares.replace('.', ',')},\n")


def make_sense(root: Path) -> None:
    images(root, "a.jpg")
    head = "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height"
    write(root / "labels.csv", f"{head}\ncat,10,5,30,25,a.jpg,64,48\n")


def hugging_face(root: Path) -> None:
    images(root, "train/a.jpg")
    objects = [{"bbox": [10, 5, 30, 25], "category": 0}]
    write(root / "train/metadata.jsonl", {"file_name": "a.jpg", "objects": objects})


def darknet(root: Path) -> None:
    images(root, "obj_train_data/a.jpg", "obj_valid_data/a.jpg")
    row = f"0 {25 / 64} {17.5 / 48} {30 / 64} {25 / 48}\n"
    for split in ("train", "valid"):
        write(root / f"obj_{split}_data/a.txt", row)
        write(root / f"{split}.txt", f"data/obj_{split}_data/a.jpg\n")
    write(root / "my.names", "cat\n")
    lists = "train = data/train.txt\nvalid = data/valid.txt\nnames = data/my.names\n"
    write(root / "obj.data", f"classes = 1\n{lists}backup = backup/\n")


def yolo_without_names(root: Path) -> None:
    images(root, "images/a.jpg")
    write(root / "labels/a.txt", f"0 {25 / 64} {17.5 / 48} {30 / 64} {25 / 48}\n")


def coco(root: Path) -> None:
    images(root, "images/a.jpg")
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 30, 25], "iscrowd": 0}
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}
    content = {"images": [image], "annotations": [row], "categories": [{"id": 1, "name": "cat"}]}
    write(root / "instances.json", content)


def voc(root: Path) -> None:
    images(root, "a.jpg")
    corners = "<xmin>10</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax>"
    row = f"<object><name>cat</name><bndbox>{corners}</bndbox></object>"
    size = "<size><width>64</width><height>48</height></size>"
    head = "<filename>a.jpg</filename>"
    write(root / "a.xml", f"<annotation>{head}{size}{row}</annotation>")


def retina_net(root: Path) -> None:
    images(root, "a.jpg")
    write(root / "boxes.csv", "a.jpg,10,5,40,30,cat\n")
    write(root / "classes.csv", "cat,0\n")


def vott(root: Path) -> None:
    images(root, "a.jpg")
    place = {"left": 10, "top": 5, "width": 30, "height": 25}
    asset = {"name": "a.jpg", "size": {"width": 64, "height": 48}}
    item = {"asset": asset, "regions": [{"tags": ["cat"], "boundingBox": place}]}
    write(root / "export.json", {"tags": [{"name": "cat"}], "assets": {"1": item}})
    write(root / "1-asset.json", item)


def datumaro(root: Path) -> None:
    images(root, "images/default/a.jpg")
    row = {"type": "bbox", "label_id": 0, "bbox": [10, 5, 30, 25]}
    item = {"id": "a", "image": {"path": "a.jpg", "size": [48, 64]}, "annotations": [row]}
    labels = {"label": {"labels": [{"name": "cat"}]}}
    write(root / "annotations/default.json", {"categories": labels, "items": [item]})


def wider_face(root: Path) -> None:
    images(root, "WIDER_train/images/0--Parade/a.jpg")
    rows = "0--Parade/a.jpg\n1\n10 5 30 25 0 0 0 0 0 0\n"
    write(root / "wider_face_split/wider_face_train_bbx_gt.txt", rows)


FAMILIES: dict[str, tuple[Callable[[Path], None], dict[str, int], dict[str, Any]]] = {
    "COCO": (coco, {"train": 1}, {}),
    "VOC": (voc, {"train": 1}, {}),
    "RetinaNet": (retina_net, {"train": 1}, {}),
    "VoTT": (vott, {"train": 1}, {}),
    "Datumaro": (datumaro, {"train": 1}, {}),
    "WIDER FACE": (wider_face, {"train": 1}, {"names": "face->cat"}),
    "labelme, splits": (labelme_splits, {"train": 1, "val": 1}, {}),
    "labelme, apart": (labelme_apart, {"train": 1}, {}),
    "labelme, with the picture": (labelme_with_the_picture, {"train": 1}, {}),
    "Label Studio, JSON-MIN": (label_studio, {"train": 1}, {}),
    "VIA 1": (via({"name": "cat"}, 1), {"train": 1}, {}),
    "VIA, checkbox": (via({"animal": {"cat": True, "dog": False}}), {"train": 1}, {}),
    "VIA, no attribute": (via({}), {"train": 1}, {"names": "object->cat"}),
    "VIA, CSV": (via_csv, {"train": 1}, {}),
    "CreateML": (createml, {"train": 1, "val": 1}, {}),
    "CVAT": (cvat, {"train": 1, "val": 1}, {}),
    "CVAT, video": (cvat_video, {"train": 2}, {}),
    "KITTI": (kitti, {"train": 1}, {}),
    "DOTA": (dota(f"imagesource:x\ngsd:0.1\n{DOTA} 0\n", "labelTxt"), {"train": 1, "val": 1}, {}),
    "DOTA, versions": (dota(f"{DOTA}\n", "labelTxt-v1.5"), {"train": 1, "val": 1}, {}),
    "Supervisely, old": (supervisely, {"train": 1}, {}),
    "Open Images, comma": (open_images, {"train": 1}, {}),
    "makesense, CSV": (make_sense, {"train": 1}, {}),
    "Hugging Face": (hugging_face, {"train": 1}, {"names": "cat"}),
    "darknet": (darknet, {"train": 1, "val": 1}, {}),
    "YOLO, no names": (yolo_without_names, {"train": 1}, {"names": "cat"}),
}
