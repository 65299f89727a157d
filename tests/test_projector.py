"""The files of TensorBoard's projector, read by TensorBoard itself."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from torch import Tensor
from werkzeug.test import Client

from gentrain import projector
from gentrain.contracts import Batch, DataSpec
from gentrain.errors import UserError
from gentrain.images import to_display
from gentrain.projector import metadata, save_projector, sprite


class Page:
    """What TensorBoard's page is served of a log folder."""

    def __init__(self, folder: Path) -> None:
        self.apps = ProjectorPlugin(TBContext(logdir=str(folder))).get_plugin_apps()
        assert json.loads(self.get("/runs", run=".")) == ["."]
        (self.points,) = json.loads(self.get("/info", run="."))["embeddings"]
        self.name = self.points["tensorName"]

    def get(self, route: str, **query: str) -> bytes:
        answer = Client(self.apps[route]).get("/", query_string=query)
        assert answer.status_code == 200, answer.text
        return answer.data

    def tensor(self) -> Tensor:
        """[N, D]."""
        values = np.frombuffer(self.get("/tensor", run=".", name=self.name), np.float32)
        return torch.from_numpy(values.copy()).view(self.points["tensorShape"])

    def metadata(self) -> list[str]:
        return self.get("/metadata", run=".", name=self.name).decode().splitlines()

    def tiles(self) -> Tensor:
        """uint8 [N, C, side, side], one for each point and the black ones after them."""
        with Image.open(io.BytesIO(self.get("/sprite_image", run=".", name=self.name))) as image:
            assert image.width == image.height <= 8192
            picture = torch.from_numpy(np.array(image))
        picture = (picture[..., None] if picture.ndim == 2 else picture).permute(2, 0, 1)
        width, height = self.points["sprite"]["singleImageDim"]
        tiles = picture.unfold(1, height, height).unfold(2, width, width)  # [C, rows, columns, h, w]
        assert tiles.shape[1] == tiles.shape[2], "the page takes rows and columns for equal"
        return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)


def pictures(count: int, *shape: int, levels: int = 256) -> Tensor:
    draw = torch.Generator().manual_seed(count)
    return torch.randint(levels, (count, *shape), generator=draw).to(torch.uint8)


def spec(**more: Any) -> DataSpec:
    return DataSpec(**{"shape": (1, 8, 8), "levels": 17, **more})


def test_labelled_images(tmp_path: Path) -> None:
    z = torch.randn(21, 3) * 1e-3
    x, label = pictures(21, 1, 8, 8, levels=17), torch.arange(21) % 3
    names = ("a cat", "tab\there\n", "")
    notes = save_projector(tmp_path, "latents_test", z, Batch(x, label), spec(classes=3, label_names=names))
    assert notes == []
    page = Page(tmp_path)
    assert page.name == "latents_test"
    assert torch.equal(page.tensor(), z), "to the bit"
    assert page.metadata() == ["a cat", "tab here", "(no name)"] * 7
    tiles = page.tiles()
    assert torch.equal(tiles[:21], to_display(x, 17))
    assert len(tiles) == 25
    assert not tiles[21:].any()
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {
        *("projector_config.pbtxt", "projector/tensors.tsv"),
        *("projector/metadata.tsv", "projector/sprite.png"),
    }


def test_other_points_replace_them(tmp_path: Path) -> None:
    """Fewer, in colour, without labels: nothing of the first is left."""
    save_projector(
        tmp_path,
        *("one", torch.randn(9, 3), Batch(pictures(9, 1, 8, 8, levels=17), torch.arange(9))),
        spec(classes=9),
    )
    z, x = torch.randn(2, 5), pictures(2, 3, 4, 4)
    notes = save_projector(tmp_path, "other", z, Batch(x), spec(shape=(3, 4, 4), levels=256))
    assert notes == ["without labels the points are all of one colour"]
    page = Page(tmp_path)
    assert page.name == "other"
    assert torch.equal(page.tensor(), z)
    assert torch.equal(page.tiles()[:2], x)
    assert "metadataPath" not in page.points
    assert {file.name for file in (tmp_path / "projector").iterdir()} == {"tensors.tsv", "sprite.png"}


def test_attributes_are_columns_below_their_names(tmp_path: Path) -> None:
    known = torch.tensor([[True, False], [False, False], [True, True]])
    batch = Batch(pictures(3, 1, 8, 8, levels=17), None, known)
    assert save_projector(tmp_path, "z", torch.randn(3, 2), batch, spec(attributes=("Male", "Young"))) == []
    assert Page(tmp_path).metadata() == ["Male\tYoung", "1\t0", "0\t0", "1\t1"]
    one = Batch(batch.x, None, known[:, :1])
    assert metadata(one, spec(attributes=("Male",))) == ["1", "0", "1"], "TensorBoard takes no header here"


def test_labels_without_names_and_beyond_them() -> None:
    batch = Batch(pictures(3, 1, 8, 8), torch.tensor([2, 0, 1]))
    assert metadata(batch, spec(classes=3)) == ["2", "0", "1"]
    assert metadata(batch, spec(classes=2, label_names=("a", "b"))) == ["2", "a", "b"]


def test_more_labels_than_colours(tmp_path: Path) -> None:
    names = tuple(f"kind {i}" for i in range(60))
    batch = Batch(pictures(60, 1, 8, 8, levels=17), torch.arange(60))
    (note,) = save_projector(tmp_path, "z", torch.randn(60, 2), batch, spec(classes=60, label_names=names))
    assert "at most 50 labels: colour by number" in note
    assert Page(tmp_path).metadata() == ["label\tnumber", *(f"kind {i}\t{i}" for i in range(60))]
    few = Batch(batch.x[:50], batch.label[:50])  # type: ignore[index]
    assert save_projector(tmp_path, "z", torch.randn(50, 2), few, spec(classes=60, label_names=names)) == []


@pytest.mark.parametrize(("height", "width", "box"), [(9, 4, (0, 9, 2, 6)), (3, 8, (2, 5, 0, 8))])
def test_images_that_are_not_square_lie_on_black(height: int, width: int, box: tuple[int, ...]) -> None:
    x = pictures(5, 3, height, width).clamp(min=1)
    picture, side = sprite(x)
    assert side == max(height, width)
    assert picture.shape == (3, 3 * side, 3 * side)
    tile = picture[:, side : 2 * side, side : 2 * side]  # the fifth: second row, second column
    assert torch.equal(tile[:, box[0] : box[1], box[2] : box[3]], x[4])
    assert int((tile > 0).sum()) == x[4].numel()


def test_a_sprite_that_would_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "LARGEST_SPRITE", 20)
    x = torch.arange(10, dtype=torch.uint8).mul(20).view(10, 1, 1, 1).expand(10, 1, 8, 8)  # 4 columns
    batch = Batch(x, torch.arange(10))
    (note,) = save_projector(tmp_path, "z", torch.randn(10, 2), batch, spec(classes=10, levels=256))
    assert "shown at 5x5 pixels" in note
    page = Page(tmp_path)
    assert page.points["sprite"]["singleImageDim"] == [5, 5]
    assert torch.equal(page.tiles()[:10], x[..., :5, :5])


def test_the_most_points_leave_tiles_that_can_be_seen() -> None:
    """The real limits: the largest sprite of the most points is within TensorBoard's 8192 pixels."""
    assert projector.LARGEST_SPRITE == 8192
    shown = torch.zeros(1, 1, 64, 64, dtype=torch.uint8).expand(projector.MOST_POINTS, -1, -1, -1)
    shown = shown[:, :, :1, :1]
    assert sprite(shown)[0].shape[-1] == 317
    assert projector.LARGEST_SPRITE // 317 == 25


def test_more_points_than_tensorboard_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "MOST_POINTS", 4)
    z, x = torch.randn(6, 2), pictures(6, 1, 8, 8, levels=17)
    (note,) = save_projector(tmp_path, "z", z, Batch(x, torch.arange(6)), spec(classes=6))
    assert "4 points at most: the first of 6 are kept" in note
    page = Page(tmp_path)
    assert torch.equal(page.tensor(), z[:4])
    assert page.metadata() == list("0123")
    assert torch.equal(page.tiles(), to_display(x[:4], 17))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "projector").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write to .*projector"):
        save_projector(tmp_path, "z", torch.randn(2, 2), Batch(pictures(2, 1, 8, 8, levels=17)), spec())
    assert [file.name for file in tmp_path.iterdir()] == ["projector"]
