from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from gentrain.contracts import DataSpec
from gentrain.data.cifar10 import CIFAR10
from gentrain.errors import CorruptFile, UserError

REMOTE = torchvision.datasets.CIFAR10
TRAIN = [name for name, _ in REMOTE.train_list]
FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
LABELS = ("airplane", "automobile", "bird")
EACH = 4

Load = Callable[..., Any]


def arrays() -> dict[str, tuple[np.ndarray, list[int]]]:
    """Rows of 3072 bytes and labels, by the name of the batch."""
    draw = np.random.default_rng(0)
    return {
        name: (
            draw.integers(0, 256, (EACH, 3072), dtype=np.uint8),
            draw.integers(0, len(LABELS), EACH).tolist(),
        )
        for name in (*TRAIN, "test_batch")
    }


def python2(value: Any) -> bytes:
    """A pickle as Python 2 wrote those of CIFAR-10: byte strings, and NumPy's old names."""

    def text(word: bytes) -> bytes:
        return b"U" + bytes([len(word)]) + word

    if isinstance(value, str):
        return text(value.encode())
    if isinstance(value, int):
        return b"J" + value.to_bytes(4, "little", signed=True)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(part) for item in value.items() for part in item) + b"u"
    assert isinstance(value, np.ndarray)
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
    kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(python2(side) for side in value.shape) + b"t"
    raw = b"T" + value.nbytes.to_bytes(4, "little") + value.tobytes()
    return empty + b"(K\x01" + shape + kind + b"\x89" + raw + b"tb"


def old(value: Any) -> bytes:
    return b"\x80\x02" + python2(value) + b"."


def new(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)


def contents(dump: Callable[[Any], bytes] = old) -> dict[str, bytes]:
    made = {"batches.meta": dump({"label_names": list(LABELS), "num_vis": 3072})}
    for name, (rows, labels) in arrays().items():
        made[name] = dump(
            {"batch_label": name, "labels": labels, "data": rows, "filenames": ["a.png"] * EACH}
        )
    return made


def write(root: Path, place: str, files: dict[str, bytes]) -> None:
    """As a folder below root, or as the archive."""
    root.mkdir(parents=True, exist_ok=True)
    if place != ARCHIVE:
        (root / place).mkdir(exist_ok=True)
        for name, content in files.items():
            (root / place / name).write_bytes(content)
        return
    with tarfile.open(root / ARCHIVE, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def load(tmp_path: Path, common: dict[str, Any], no_network: None) -> Load:
    """Load what lies in tmp_path / root."""

    def load(**settings: Any) -> Any:
        return CIFAR10(**{**common, "root": str(tmp_path / "root"), "verify": False, **settings}).load()

    return load


def entries(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()]


def test_the_made_up_pickles_are_pickles() -> None:
    entry = pickle.loads(contents()["data_batch_1"], encoding="latin1")
    rows, labels = arrays()["data_batch_1"]
    assert (entry["data"] == rows).all()
    assert entry["labels"] == labels


def check(data: Any) -> None:
    """That `data` is what `contents` holds."""
    made = arrays()
    assert data.spec == DataSpec((3, 32, 32), classes=3, label_names=LABELS)
    rows, labels = made["test_batch"]
    assert (data.test.images == rows.reshape(-1, 3, 32, 32)).all()
    assert data.test.labels.tolist() == labels
    pairs = zip(data.train.images, data.train.labels, strict=True)
    expected = [
        (row.tobytes(), label)
        for name in TRAIN
        for row, label in zip(made[name][0], made[name][1], strict=True)
    ]
    assert sorted((image.tobytes(), int(label)) for image, label in pairs) == sorted(expected)


@pytest.mark.parametrize("dump", [old, new])
@pytest.mark.parametrize("place", [FOLDER, "", ARCHIVE])
def test_files_are_found_and_read_in_place(
    load: Load, tmp_path: Path, place: str, dump: Callable[[Any], bytes]
) -> None:
    write(tmp_path / "root", place, contents(dump))
    before = sorted((tmp_path / "root").rglob("*"))
    check(load())
    assert sorted((tmp_path / "root").rglob("*")) == before


def test_root_may_be_the_archive(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root", ARCHIVE, contents())
    check(load(root=str(tmp_path / "root" / ARCHIVE)))


def test_an_incomplete_folder_gives_way_to_the_archive(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root", ARCHIVE, contents())
    write(tmp_path / "root", FOLDER, {"data_batch_1": b"half"})
    check(load())


def test_torchvision_reads_the_same_pixels(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "root", FOLDER, contents(new))
    monkeypatch.setattr(REMOTE, "_check_integrity", lambda self: True)
    monkeypatch.setattr(REMOTE, "meta", {**REMOTE.meta, "md5": None})
    theirs = REMOTE(tmp_path / "root", train=False)
    data = load()
    assert (data.test.images.transpose(0, 2, 3, 1) == theirs.data).all()
    assert data.test.labels.tolist() == theirs.targets
    assert list(data.spec.label_names) == theirs.classes


def sums(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Let torchvision's tables publish these files."""
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(REMOTE, "train_list", [[name, md5[name]] for name in TRAIN])
    monkeypatch.setattr(REMOTE, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(REMOTE, "meta", {**REMOTE.meta, "md5": md5["batches.meta"]})


@pytest.mark.parametrize("place", [FOLDER, ARCHIVE])
def test_every_file_is_compared_with_its_checksum(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    files = contents()
    write(tmp_path / "root", place, files)
    with pytest.raises(CorruptFile, match=r"MD5 [0-9a-f]{32}, found [0-9a-f]{32} .*dataset\.verify=false"):
        load(verify=True)
    for name in files:
        sums(monkeypatch, {**files, name: b"another"})
        with pytest.raises(CorruptFile, match=f"{place}/{name} is damaged: expected MD5"):
            load(verify=True)
    assert entries(tmp_path) == []
    sums(monkeypatch, files)
    check(load(verify=True))


def test_missing_files_without_network(load: Load, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        load()
    assert time.monotonic() - start < 10
    for words in (
        f"CIFAR10 is not in {tmp_path / 'root'} (looked there, in {FOLDER} and for {ARCHIVE})",
        "no answer from www.cs.toronto.edu within 5 seconds",
        f"{ARCHIVE} (MD5 c58f30108f718f92721af3b95e74349a)",
        f"curl --create-dirs --output-dir '{tmp_path / 'root'}' -O '{REMOTE.url}'",
        "dataset.root=",
        "dataset=digits",
    ):
        assert words in str(error.value)
    assert not (tmp_path / "root").exists()


def test_download_is_whole_or_not_there(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server of our own in the place of Toronto's."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name)
    write(tmp_path / "served", ARCHIVE, contents())
    served = (tmp_path / "served" / ARCHIVE).read_bytes()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(REMOTE, "url", f"http://127.0.0.1:{server.server_port}/{ARCHIVE}")
        with pytest.raises(UserError, match=f"cannot be downloaded: .*Wanted: {ARCHIVE}"):
            load()
        assert list((tmp_path / "root").iterdir()) == []
        monkeypatch.setattr(REMOTE, "tgz_md5", hashlib.md5(served).hexdigest())
        check(load())
        server.shutdown()
    assert [path.name for path in (tmp_path / "root").iterdir()] == [ARCHIVE]


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_never_runs(load: Load, tmp_path: Path, protocol: int) -> None:
    harm = tmp_path / "harm"
    attack = pickle.dumps({"data": Attack(harm), "labels": []}, protocol)
    for name in ("data_batch_3", "batches.meta"):
        write(tmp_path / "root", FOLDER, {**contents(), name: attack})
        with pytest.raises(CorruptFile, match=rf"{name} is damaged: .*\.mkdir, which has no business there"):
            load()
    assert not harm.exists()
    pickle.loads(attack)
    assert harm.exists(), "the attack works where nothing stops it"


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(U\x011tR.",
        b"cnumpy\nload\n(U\x01xtR.",
        b"(U\x04trueios\nsystem\n.",  # INST
        b"cnumpy\ndtype.__class__\n.",
        b"\x82\x01.",  # a code of the extension registry
        b"P0\n.",  # a persistent id
        b"r\xff\xff\xff\x7f.",  # a place in the memo far beyond its end
        b"c_codecs\nencode\n(U\x01xU\x06base64tR.",
    ],
)
def test_nothing_else_is_named_either(load: Load, tmp_path: Path, code: bytes) -> None:
    write(tmp_path / "root", FOLDER, {**contents(), "data_batch_2": b"\x80\x02" + code})
    with pytest.raises(CorruptFile, match="data_batch_2 is damaged"):
        load()


def batch(**changes: Any) -> bytes:
    rows, labels = arrays()["data_batch_1"]
    return new({"data": rows, "labels": labels, **changes})


ROWS = arrays()["data_batch_1"][0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["a pickle with data", "found"]),
        (contents()["data_batch_1"][:-1], ["found"]),
        (contents()["data_batch_1"][:5000], ["found"]),
        (b" <!DOCTYPE html><html>404</html>", ["found an HTML page"]),
        (bytes(100), ["found"]),
        (new([1, 2]), ["found something else"]),
        (new({"labels": [1]}), ["no array of bytes"]),
        (batch(data=ROWS.astype(np.int16)), ["no array of bytes"]),
        (batch(data=np.asfortranarray(ROWS)), ["no array of bytes in rows"]),
        (batch(data=ROWS[:, :3071]), ["12,284 bytes for 4 x 3071 values"]),
        (batch(data=ROWS.reshape(4, 3, 1024)), ["12,288 bytes for 4 x 3 x 1024 values"]),
        (old({"data": ROWS[:0], "labels": []}), ["no image"]),
        (batch(labels=[0, 1, 2]), ["expected 4 labels", "found 3"]),
        (batch(labels=[0, 1, 2, "3"]), ["no list of integers"]),
        (batch(labels=[0, 1, 2, 3]), ["labels 0 to 2", "found 0 to 3"]),
        (batch(labels=[0, 1, 2, -1]), ["found -1 to 2"]),
    ],
)
def test_damaged_batches(load: Load, tmp_path: Path, content: bytes, words: list[str]) -> None:
    for place in (FOLDER, ARCHIVE):
        root = tmp_path / place
        write(root, place, {**contents(), "data_batch_1": content})
        with pytest.raises(CorruptFile) as error:
            load(root=str(root))
        text = str(error.value)
        assert all(word in text for word in [str(root / place / "data_batch_1"), *words]), text
    assert entries(tmp_path) == []


@pytest.mark.parametrize("names", [None, [], ["a", 1], "abc"])
def test_damaged_label_names(load: Load, tmp_path: Path, names: Any) -> None:
    write(tmp_path / "root", FOLDER, {**contents(), "batches.meta": new({"label_names": names})})
    with pytest.raises(CorruptFile, match=r"batches\.meta is damaged: .*label_names"):
        load()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda c: c[: len(c) // 2], "expected a gzip archive"),
        (lambda c: c[:10], "expected a gzip archive"),
        (lambda c: b"", "expected a gzip archive"),
        (lambda c: b"<html>quota</html>", "found an HTML page"),
        (lambda c: c[: len(c) // 2] + b"xxxx" + c[len(c) // 2 + 4 :], "expected"),
    ],
)
def test_damaged_archives(load: Load, tmp_path: Path, damage: Callable[[bytes], bytes], found: str) -> None:
    write(tmp_path / "root", ARCHIVE, contents())
    path = tmp_path / "root" / ARCHIVE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptFile, match=found) as error:
        load()
    assert str(path) in str(error.value)
    assert entries(tmp_path) == []


def test_archive_without_one_of_the_files(load: Load, tmp_path: Path) -> None:
    files = contents()
    del files["test_batch"]
    write(tmp_path / "root", ARCHIVE, files)
    with pytest.raises(CorruptFile, match=f"{ARCHIVE} is damaged: expected the files .* found no test_batch"):
        load()


@pytest.mark.slow
def test_processes_that_start_at_once_decode_once(
    tmp_path: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "root", ARCHIVE, contents())
    settings = {**common, "root": str(tmp_path / "root"), "verify": False}
    code = f"""
import time
from gentrain.data.cifar10 import CIFAR10
class Slow(CIFAR10):
    def decode(self, writer):
        with open({str(tmp_path / "log")!r}, "a") as file:
            file.write("decoded\\n")
        time.sleep(1.5)
        return super().decode(writer)
data = Slow(**{settings!r}).load()
print(int(data.train.images.sum()), int(data.test.labels.sum()))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=60) for process in processes]
    made = arrays()
    total = sum(int(made[name][0].sum()) for name in TRAIN)
    assert [out.split() for out, _ in ended] == [[str(total), str(sum(made["test_batch"][1]))]] * 2, ended
    assert (tmp_path / "log").read_text() == "decoded\n"
    assert len(entries(tmp_path)) == 1
