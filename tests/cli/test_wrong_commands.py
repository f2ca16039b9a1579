"""Wrong commands: each with its exit code and the words a user needs; none leaves a run behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rows import each
from yolodet.cli import main

# The command; a part of its one line of message.  Every one of these is a usage error: exit code 2.
WRONG = [
    # no command, or none that exists
    ("data=coco8.yaml", "missing command: write det and one of train, val, predict"),
    ("trian data=coco8.yaml", "did you mean 'det train'?"),
    ("wibble", "choose from train, val, predict, track, export, tune, prune, compress, compare"),
    ("data chek", "did you mean 'det data check'?"),
    ("data n=3", "missing command: write det data and one of check, convert, split, merge, "),
    ("config data", "choose from train, val, predict"),
    # words that are no options
    ("train epoch=3", "did you mean 'epochs'?"),
    ("train --save-perid 3", "did you mean 'save_period'?"),
    ("train lr=0.1", "use lr0="),
    ("train source=x.jpg", "it belongs to det predict"),
    ("predict epochs=3", "it belongs to det train"),
    ("data check epochs=3", "it belongs to det train"),
    ("train yolo26n", "det train does not understand 'yolo26n': write option=value"),
    ("train best.pt", "write model=best.pt"),
    ("train image.jpg", "does not understand 'image.jpg'"),
    ("train epochs", "write epochs=100"),
    ("train -e 3", "does not understand '-e'"),
    # values
    ("train epochs=abc", "expected a whole number from 1, e.g. epochs=100"),
    ("train epochs=2.5", "expected a whole number"),
    ("train epochs=0", "out of range"),
    ("train epochs=none", "cannot be none"),
    ("train epochs=", "epochs= has no value"),
    ("train --epochs", "--epochs needs a value"),
    ("train --epochs --amp", "--epochs needs a value"),
    ("train --no-epochs", "epochs is not a switch"),
    ("train classes=[0,", "no closing bracket"),
    ("train mosaic=2", "from 0 to 1"),
    ("train lr0=nan", "expected a number"),
    ("train amp=maybe", "one of auto, True, False, fp16, bf16, fp32"),
    ("train optimizer=Foo", "one of auto, SGD, AdamW, MuSGD, Adam"),
    ("train save=perhaps", "expected True or False"),
    ("train epochs=3 epochs=5", "given twice"),
    ("train --quiet verbose=True", "contradicts"),
    ("train json=perhaps", "expected True or False"),
    # pairs that contradict each other, or have no effect
    ("train cos_lr=True schedule=linear", "cos_lr=True contradicts schedule=linear"),
    ("train ema=False ema_decay=0.99", "no effect with ema=False"),
    ("train lr0=0", "changes no weight"),
    ("train amp_force=True amp=True", "needs a named precision"),
    ("train time=0", "leaves no time"),
    ("train val=False patience=5", "use patience=0"),
    ("train fraction=0", "leaves no image"),
    ("train save=False save_period=1", "no effect with save=False"),
    ("train save=False save_steps=1", "no effect with save=False"),
    ("train model=my.safetensors pretrained=other.safetensors", "two sources of weights"),
    ("predict image.jpg save_conf=True", "add save_txt=True"),
    # devices, folders, names
    ("train device=gpu", "expected cpu, mps, cuda"),
    ("val device=0,1", "this command runs on one device; use device=0"),
    ("train name=a/b", "expected a plain folder name"),
    ("train project=image.jpg", "image.jpg (Not a directory); choose another folder"),
    ("train project=/proc/runs", "project=/proc/runs: cannot write in /proc ("),
    ("val project=image.jpg/runs", "project=image.jpg/runs: cannot write in"),
    ("data shapes n=2 val=2", "leaves no image for training"),
    # files that are not there or are something else
    ("train cfg=nope.yaml", "no such file (looked in"),
    ("train cfg=broken.yaml", "is not valid YAML"),
    ("train cfg=slip.yaml", "cfg=slip.yaml: unknown option 'epoch'"),
    ("train data=options.yaml", "is a file of options, not a data set: write cfg=options.yaml"),
    ("data check options.yaml", "is a file of options, not a data set: write cfg=options.yaml"),
    ("train cfg=lost.yaml", "cfg=lost.yaml describes a data set: write data=lost.yaml"),
    ("train data=nope.yaml", "nope.yaml does not exist"),
    ("train data=coco9.yaml", "did you mean coco8.yaml?"),
    ("train data=image.jpg", "name the data set's folder or YAML"),
    ("train data=lost.yaml", "was not found; looked for"),
    ("train data=lost", "was not found; looked for"),
    ("train data=empty", "write data.yaml there, with the lines train: images/train, val: images"),
    ("train data=coco8 offline=True split=test", "there is no split 'test'; there is train, val"),
    ("train data=coco8.yaml split=test", "there is no split 'test'; there is train, val"),
    ("train pretrained=yolo26s.pt", "no permissive pretrained weights"),
    ("train model=yolo26", "did you mean yolo26n"),
    ("train model=nope.safetensors", "no such file (looked in"),
    ("train model=image.jpg", "expected a .safetensors checkpoint"),
    ("train resume=nope", "nope; name a run folder"),
    ("train resume=empty", "there is no empty/weights/last.pt"),
    ("train resume=True", "no finished run"),
    ("val", "no finished run"),
    ("val model=yolo26n", "has not been trained"),
    ("val model=empty", "folder without weights/best.safetensors"),
    ("predict", "missing source: write det predict"),
    ("predict nope.jpg", "no such source: nope.jpg"),
    ("train dry_run=True resume=runs/train", "dry_run=True shows a new run: leave out resume="),
    ("train memory=0", "memory=0 leaves nothing to train in: expected a size"),
    ("train memory=8", "memory=8 has no unit: write memory=8GiB, or auto"),
    ("train memory=0GiB", "leaves nothing to train in: expected a size with its unit"),
    ("train memory=lots", "memory=lots: expected a size with its unit, e.g. memory=8GiB"),
    ("train memory=-2GiB", "expected a size with its unit"),
    ("train memory=8GiB batch=auto", "leave one of them out, or write a number for batch="),
    ("train dry_run=True seeds=3", "dry_run=True shows one run: leave out seeds=3"),
    ("prune dry_run=True data=shapes.yaml", "no option 'dry_run': it belongs to det train"),
    ("predict imge.jpg", "did you mean image.jpg?"),
    ("predict empty", "no image or video in this folder"),
    ("predict '*.png'", "matches nothing"),
    ("predict image.jpg", "no finished run"),
    ("info nope", "expected one of yolo26n"),
    ("info nope.pt", "no such file"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a few things in it, and caches elsewhere."""
    work = tmp_path / "work"
    (work / "empty").mkdir(parents=True)
    (work / "image.jpg").write_bytes(b"\xff\xd8")
    (work / "broken.yaml").write_text("epochs: [")
    (work / "slip.yaml").write_text("epoch: 3")
    (work / "options.yaml").write_text("epochs: 3\nbatch: 8\n")
    (work / "lost.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    (work / "damaged.safetensors").write_bytes(b"\x00" * 16)
    monkeypatch.chdir(work)
    return work


def listing(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@each(("typed", "said"), WRONG)
def test_a_wrong_command_is_refused_in_one_line(folder, capsys, typed: str, said: str) -> None:
    before = listing(folder.parent)
    code = main([word.strip("'") for word in typed.split()])
    out, err = capsys.readouterr()
    assert said in err
    assert code == 2
    assert out == ""
    assert err.startswith("det: error: ")
    assert err.count("\n") == 1
    assert listing(folder.parent) == before  # no run folder, no cache


def test_the_table_is_long_enough_and_has_no_twins() -> None:
    assert len({typed for typed, _ in WRONG}) == len(WRONG) >= 40


def test_a_damaged_checkpoint_is_a_failure_that_names_it(folder, capsys) -> None:
    assert main(["val", "model=damaged.safetensors", "data=coco8.yaml"]) == 1
    assert "damaged.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("index", [1, 34, 70])
def test_the_installed_command_answers_like_main(folder, index: int) -> None:
    typed, said = WRONG[index]
    det = shutil.which("det", path=Path(sys.executable).parent)
    assert det, "the det command is not installed beside this Python"
    done = subprocess.run([det, *typed.split()], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (folder / "runs").exists()
