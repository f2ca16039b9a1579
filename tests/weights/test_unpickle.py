"""The restricted reader: equal to torch.load on honest files, and nothing runs on the others."""

from __future__ import annotations

import collections
import contextlib
import pickle
import random
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rows import each
from yolodet.weights.importers import ImportFailed, RefusedPickle, import_checkpoint
from yolodet.weights.importers.pickle_machine import Machine
from yolodet.weights.importers.rebuild import Stub
from yolodet.weights.importers.storages import Storages
from yolodet.weights.importers.unpickle import read_checkpoint

WATCHED = (
    "os.",
    "subprocess.",
    "exec",
    "compile",
    "import",
    "socket.",
    "shutil.",
    "pty.",
    "ctypes.",
)
_events: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is not None and event.startswith(WATCHED):
        _events.append(f"{event} {arguments}")


sys.addaudithook(_watch)


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One honest file is read first: what reading itself imports is imported then."""
    read_checkpoint(archive(tmp_path_factory.mktemp("warm") / "a.pt", PROTO + b"}."))


@contextlib.contextmanager
def nothing_runs() -> Iterator[None]:
    """The interpreter reports no command, no compiled code and no import inside this block."""
    global _events
    _events = seen = []
    try:
        yield
    finally:
        _events = None
    assert seen == []


def test_the_watch_sees_what_it_watches_for() -> None:
    for command in (
        "eval('1')",
        "import this_module_does_not_exist",
        "__import__('os').system('')",
    ):
        with pytest.raises(AssertionError), nothing_runs(), contextlib.suppress(ImportError):
            exec(command)


def archive(path: Path, pickled: bytes, **storages: bytes) -> Path:
    """A file as torch.save lays it out."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            file.writestr(f"archive/data/{key}", data)
    return path


PROTO = b"\x80\x02"
OPAQUE = b"cultralytics.nn.tasks\nDetectionModel\n"
COMMAND = b"X\x05\x00\x00\x00touch"
CALLS = {
    "os.system": b"cos\nsystem\n(" + COMMAND + b"tR.",
    "posix.system": b"}X\x05\x00\x00\x00modelcposix\nsystem\n(" + COMMAND + b"tRs.",
    "builtins.eval": b"cbuiltins\neval\n(" + COMMAND + b"tR.",
    "__builtin__.exec": b"c__builtin__\nexec\n(" + COMMAND + b"tR.",
    "subprocess.Popen": b"csubprocess\nPopen\n(" + COMMAND + b"t\x81.",
    "os.popen": b"ccollections\nOrderedDict\n((cos\npopen\n(" + COMMAND + b"tRlttR.",
    "nt.system": b"(S'x'\nint\nsystem\n.",
    "subprocess.run": b"(csubprocess\nrun\n" + COMMAND + b"o.",
    "os.execv": b"cos\nexecv\n)}\x92.",
    "sys.settrace": b"csys\nsettrace\n}b.",
    "builtins.getattr": b"cbuiltins\ngetattr\n(ctorch.nn.modules.module\ntorch\n"
    + COMMAND
    + b"tR.",
    "torch.nn.modules.module.torch.os.system": b"\x8c\x17torch.nn.modules.module"
    b"\x8c\x0ftorch.os.system\x93(" + COMMAND + b"t\x81.",
    "torch.nn.modules.module.warnings": b"ctorch.nn.modules.module\nwarnings\n)R.",
    "torch.storage._load_from_bytes": b"ctorch.storage\n_load_from_bytes\n(C\x01.tR.",
    "copyreg.__reduce_ex__": b"ccopyreg\n__reduce_ex__\n)R.",
    "shutil.rmtree": b"ccopy_reg\n_reconstructor\n(cshutil\nrmtree\nc__builtin__\nobject\nNtR.",
    "runpy.run_path": b"ctorch._tensor\n_rebuild_from_type_v2\n(crunpy\nrun_path\nN)NtR.",
    "pty.spawn": b"(X\x07\x00\x00\x00storagecpty\nspawn\n" + 2 * COMMAND + b"K\x01tQ.",
    "_codecs.encode": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.",
    "a value of type Stub": OPAQUE + b")\x81)R.",
    "the opcode EXT1": b"\x82\x01.",
    "the opcode PERSID": b"Pfile:///etc/passwd\n.",
    "the opcode NEXT_BUFFER": b"\x97.",
    "a persistent object": b"X\x07\x00\x00\x00storageQ.",
}


@each("wanted", CALLS)
def test_a_malicious_pickle_is_refused_by_name(wanted: str, tmp_path: Path) -> None:
    file = archive(tmp_path / "model.pt", PROTO + CALLS[wanted])
    with nothing_runs(), pytest.raises(RefusedPickle, match="refused") as caught:
        import_checkpoint(file)
    assert caught.value.wanted == wanted
    assert wanted in str(caught.value) and str(file) in str(caught.value)


def test_a_state_with_a_setstate_stays_a_state(tmp_path: Path) -> None:
    state = b"}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsX\x05\x00\x00\x00otherK\x01s"
    file = archive(tmp_path / "a.pt", PROTO + OPAQUE + b")\x81" + state + b"b.")
    with nothing_runs():
        content = read_checkpoint(file)
    assert isinstance(content, Stub) and str(content.state["__setstate__"]) == "os.system"


def test_the_old_layout_is_refused_by_name_too(tmp_path: Path) -> None:
    file = tmp_path / "old.pt"
    file.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + PROTO + CALLS["os.system"])
    with nothing_runs(), pytest.raises(RefusedPickle, match=r"os\.system"):
        read_checkpoint(file)


def test_a_real_reduce_of_a_callable_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("executed",))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with nothing_runs(), pytest.raises(RefusedPickle, match=r"__builtin__\.print|builtins\.print"):
        import_checkpoint(tmp_path / "evil.pt")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", PROTO + b"}.")
        file.writestr("archive/data/0", bytes(50_000_000))
    with pytest.raises(ImportFailed, match=r"zip bomb: entry .* is compressed"):
        read_checkpoint(tmp_path / "bomb.pt")
    copies = b"c__builtin__\nlist\nq\x00(" + b"N" * 100_000 + b"lq\x01" + b"h\x00h\x01\x85R" * 1000
    with pytest.raises(ImportFailed, match="far more than it stores"):
        read_checkpoint(archive(tmp_path / "copies.pt", PROTO + copies + b"."))
    steps = [b"(h%ch%ctq%c" % (i, i, i + 1) for i in range(99)]
    laughs = b"(lq\x00" + b"".join(steps)
    with pytest.raises(ImportFailed, match="as a key"):
        read_checkpoint(archive(tmp_path / "laughs.pt", PROTO + laughs + b"q\x99}h\x99Ns."))
    with pytest.raises(RefusedPickle, match="persistent"):
        read_checkpoint(archive(tmp_path / "spelled.pt", PROTO + laughs + b"Q."))


def overlapping(path: Path) -> Path:
    """Two entries on the same bytes: each is honest, together they hold more than the file."""
    archive(path, PROTO + b"}.", a=bytes(5000))
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    entry = bytes(data[start : data.rindex(b"PK\x05\x06")])
    other = entry.replace(b"archive/data/a", b"archive/data/b")
    tail = bytearray(data[data.rindex(b"PK\x05\x06") :])
    for offset in (8, 10):
        tail[offset] += 1
    size = int.from_bytes(tail[12:16], "little") + len(other)
    tail[12:16] = size.to_bytes(4, "little")
    path.write_bytes(bytes(data[: start + len(entry)]) + other + bytes(tail))
    return path


def test_overlapping_and_repeated_entries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match=r"zip bomb: it unpacks|overlap"):
        read_checkpoint(overlapping(tmp_path / "overlap.pt"))
    with zipfile.ZipFile(tmp_path / "twice.pt", "w") as file, pytest.warns(UserWarning):
        file.writestr("archive/data.pkl", PROTO + b"}.")
        file.writestr("archive/data.pkl", PROTO + CALLS["os.system"])
    with pytest.raises(ImportFailed, match="two of its entries"):
        read_checkpoint(tmp_path / "twice.pt")


def tensor_file(path: Path, *, numel: int, offset: int, size: int, stride: int) -> Path:
    pid = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    numbers = [b"J" + n.to_bytes(4, "little", signed=True) for n in (numel, offset, size, stride)]
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + numbers[0] + b"tQ" + numbers[1]
    view = b"(" + numbers[2] + b"t(" + numbers[3] + b"t\x89NtR."
    return archive(path, PROTO + call + view, **{"0": np.arange(4, dtype="<f4").tobytes()})


def test_tensors_cannot_reach_past_their_storage(tmp_path: Path) -> None:
    honest = read_checkpoint(tensor_file(tmp_path / "a.pt", numel=4, offset=1, size=2, stride=2))
    assert honest.tolist() == [1.0, 3.0]
    for wrong in ({"offset": 3}, {"size": 3}, {"stride": 9}, {"offset": -1}, {"numel": 9}):
        numbers = {"numel": 4, "offset": 1, "size": 2, "stride": 2} | wrong
        with pytest.raises(ImportFailed, match="damaged"):
            read_checkpoint(tensor_file(tmp_path / "b.pt", **numbers))
    with pytest.raises(ImportFailed, match="past its storage"):  # a bomb by repetition
        read_checkpoint(tensor_file(tmp_path / "c.pt", numel=4, offset=0, size=10**9, stride=0))


def honest_content() -> dict[str, Any]:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return {
        "views": [base, base[1:3, ::2], base.t(), base[2, 3]],
        "types": {
            str(t): torch.tensor([0, 1, 2]).to(t)
            for t in (
                *(torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
                *(torch.int16, torch.int8, torch.uint8, torch.bool),
            )
        },
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "plain": (1, -2.5, None, True, "text", b"bytes", {1, 2}, frozenset("ab"), 2**80),
        "ordered": collections.OrderedDict(a=1, b=[2]),
        "default": collections.defaultdict(list),
        "numbers": {"f8": np.float64(0.25), "f4": np.float32(3), "i8": np.int64(-7)},
        "path": Path("runs/train"),
        "size": torch.Size((2, 3)),
    }


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected) and found.dtype == expected.dtype
        assert found.stride() == expected.stride() or not expected.numel()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, Path):
        assert Path(found) == expected
    else:
        assert found == expected


@each("layout", ["zip", "stream"])
@each("protocol", [2, 4])
def test_honest_files_read_like_torch_load(layout: str, protocol: int, tmp_path: Path) -> None:
    file, content = tmp_path / "honest.pt", honest_content()
    torch.save(
        content,
        file,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=layout == "zip",
    )
    assert_same(read_checkpoint(file), torch.load(file, weights_only=False))


def test_objects_of_modules_become_stubs_without_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = types.ModuleType("ultralytics.nn.tasks")
    kind = type("DetectionModel", (torch.nn.Module,), {"__module__": home.__name__})
    home.DetectionModel = kind  # type: ignore[attr-defined]
    with monkeypatch.context() as installed:
        for name in ("ultralytics", "ultralytics.nn", home.__name__):
            installed.setitem(sys.modules, name, home)
        model = kind()
        model.inner = torch.nn.Linear(2, 3)
        torch.save({"model": model}, tmp_path / "model.pt")
    stub = read_checkpoint(tmp_path / "model.pt")["model"]
    assert str(stub.kind) == "ultralytics.nn.tasks.DetectionModel"
    weight = stub.state["_modules"]["inner"].state["_parameters"]["weight"]
    assert torch.equal(weight, model.inner.weight)
    assert "ultralytics" not in sys.modules


@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_damage_is_reported_as_such_and_never_read_as_something_else(
    layout: str, tmp_path: Path
) -> None:
    content = {"a": torch.arange(6.0).reshape(2, 3), "b": [1, "x", (2.5, None)]}
    file, rng = tmp_path / "broken.pt", random.Random(0)
    torch.save(content, file, _use_new_zipfile_serialization=layout == "zip")
    whole = file.read_bytes()
    for _ in range(100):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        file.write_bytes(broken[: rng.choice((len(broken), rng.randrange(len(broken))))])
        with contextlib.suppress(ImportFailed):
            found = read_checkpoint(file)
            if layout == "zip":  # the stream has no checksums
                assert_same(found, content)


def test_random_opcodes_run_nothing_and_raise_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(1)
    pieces = [p for call in CALLS.values() for p in (call[:-1], call[: len(call) // 2])]
    pieces += [
        b"(",
        b")",
        b"t",
        b"l",
        b"d",
        b"}",
        b"]",
        b"0",
        b"1",
        b"2",
        b"R",
        b"b",
        b"\x81",
        b"Q",
    ]
    for _ in range(2000):
        program = PROTO + b"".join(rng.choices(pieces, k=rng.randint(1, 12))) + b"."
        machine = Machine(tmp_path, Storages(tmp_path, lambda key: b""))
        with nothing_runs(), contextlib.suppress(ImportFailed):
            machine.run(program)


def test_other_files_are_named_for_what_they_are_not(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(ImportFailed, match=r"not a PyTorch checkpoint|broken"):
        import_checkpoint(tmp_path / "text.pt")
    with zipfile.ZipFile(tmp_path / "photos.pt", "w") as file:
        file.writestr("photo.txt", "x")
    with pytest.raises(ImportFailed, match=r"without data\.pkl"):
        import_checkpoint(tmp_path / "photos.pt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "unknown.pt")
    with pytest.raises(ImportFailed, match="unknown kind"):
        import_checkpoint(tmp_path / "unknown.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(ImportFailed):
        import_checkpoint(tmp_path / "empty.pt")
