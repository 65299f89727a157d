"""Names that neither the terminal nor UTF-8 can say: of class folders, files and run folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from running import Ended, environment

from gentrain.files import read_text, write_text
from gentrain.images import save_png

#: As Python spells the latin-1 bytes of "café" where file names are UTF-8.
CAFE = os.fsdecode(b"caf\xe9")
TINY = ["model=vae_mlp", "model.hidden=[8]", "train.batch_size=8", "train.sample_count=4", "dataset=folder"]


def album(place: Path, *classes: str) -> None:
    """Ten pictures of 8x8 pixels for each of `classes`."""
    for number, name in enumerate(classes):
        for i in range(10):
            pixels = np.random.default_rng(100 * number + i).integers(0, 256, (1, 8, 8), dtype=np.uint8)
            save_png(torch.from_numpy(pixels), place / name / f"{CAFE}_{i}.png")


@pytest.mark.slow
def test_the_whole_walk(gentrain: Callable[..., Ended], workplace: Path) -> None:
    album(workplace / "album", CAFE, "the")
    (workplace / "album" / "the" / f"broken{CAFE}.png").write_bytes(b"no picture")
    run = f"run {CAFE}"
    where = ["dataset.root=album", "dataset.on_error=skip"]
    for words in (
        ["train", *TINY, *where, "train.steps=2", f"run_dir={run}"],
        ["train", f"resume={run}", "train.steps=4"],
        ["train", *TINY, *where, "train.steps=2", f"init={run}", "run_dir=other"],
        ["sample", f"ckpt={run}", "n=4", f"out={CAFE}.png"],
        ["eval", f"ckpt={run}", "samples=2", "metrics=[likelihood,classifier,probe]", "n=20"],
        ["encode", f"ckpt={run}", "projector=true", "split=train"],
        ["reconstruct", f"ckpt={run}", f"images=album/{CAFE}/{CAFE}_0.png"],
    ):
        done = gentrain(*words)
        assert done.status == 0, done.err
    assert Path(f"{CAFE}.png").is_file()
    assert yaml.safe_load(read_text(Path(run, "config.yaml")))["run_dir"] == run
    rows = Path(run, "projector", "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert set(rows) == {"caf\\udce9", "the"}
    assert len(Path(run, "metrics.jsonl").read_text().splitlines()) > 0


def test_tensorboard_that_cannot_say_the_folder_is_no_stop(
    gentrain: Callable[..., Ended], workplace: Path
) -> None:
    done = gentrain("train", "model=vae_mlp", "model.hidden=[8]", "train.steps=2", f"run_dir={CAFE}")
    assert done.status == 0, done.err
    assert done.err.count("TensorBoard cannot write") == 1
    assert not list(Path(CAFE).glob("events*"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("localedef") is None, reason="no locale can be made")
def test_a_locale_that_is_not_utf8(workplace: Path) -> None:
    """Classes of a zip, in UTF-8, that latin-1 has no letters for."""
    made = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(workplace / "en_US.ISO-8859-1")]
    if subprocess.run(made, capture_output=True).returncode:
        pytest.skip("no locale can be made")
    with zipfile.ZipFile("album.zip", "w") as archive:
        for number, name in enumerate(("\u65e5\u672c", "caf\xe9")):
            for i in range(10):
                pixels = np.full((8, 8), 100 * number + i, np.uint8)
                Image.fromarray(pixels).save("one.png")
                archive.write("one.png", f"{name}/{i}.png")
    locale = {"LOCPATH": str(workplace), "LC_ALL": "en_US.ISO-8859-1"}
    settings = ["dataset.root=album.zip", "dataset.validation=0", "train.steps=1", "run_dir=caf\xe9"]
    script = (
        "import sys; from gentrain.cli import main; sys.exit(max(main(a.split('|')) for a in sys.argv[1:]))"
    )
    walk = ["|".join(["train", *TINY, *settings]), "train|resume=caf\xe9|train.steps=2"]
    walk.append("encode|ckpt=caf\xe9|projector=true")
    done = subprocess.run(
        [sys.executable, "-c", script, *(word.encode("latin-1") for word in walk)],
        env=environment(**locale),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u65e5\\u672c" in done.stdout
    assert Path(CAFE, "config.yaml").is_file()
    assert "run_dir: caf\xe9\n" in Path(CAFE, "config.yaml").read_text(encoding="utf-8")


def test_text_comes_back_whatever_it_holds(tmp_path: Path) -> None:
    for text in ("plain", "caf\xe9 \u65e5\u672c", CAFE, "\ud800"):
        write_text(tmp_path / "file", text)
        assert read_text(tmp_path / "file") == text
    (tmp_path / "file").write_bytes(b"a\xffb")
    assert read_text(tmp_path / "file") == "a\ufffdb", "damaged"
