"""The exported folder: a trained model in a form to share, weights and words alone, no state of training.

    model.safetensors   the weights, averaged where the run averaged them
    config.json         the model, its DataSpec, what the run was, the SHA-256 of the weights
    README.md           a card with the header that the Hugging Face Hub reads
    samples.png         pictures, where the model draws them without data

Nothing in it is executed: safetensors and JSON hold numbers and text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gentrain.errors import CorruptFile, UserError
from gentrain.files import LEFTOVER, sync, unwritable, write_text

WEIGHTS, CONFIG, CARD, PICTURE, GRAPH = (
    *("model.safetensors", "config.json", "README.md", "samples.png", "model.onnx"),
)
#: What a reproduction keeps beside its weights, or instead of them.
RESULT = "result.json"
#: Counts changes of what config.json holds; older formats go on loading.
FORMAT = 1
#: Of a weight in the file.
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
#: No config.json is as long, in bytes.
_LONGEST = 1 << 24

#: No image has as many numbers.
_MOST = 1 << 32

#: What config.json holds at least, and of which type.
_NEEDED: dict[str, type] = {
    **dict.fromkeys(("format", "step"), int),
    **dict.fromkeys(("model", "spec", "weights", "run"), dict),
    "averaged": bool,
}


class Absent(nn.Module):
    """Stands where a network was that only training needs and that an export left out."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._said = f"the export has no {name}: only training needs it (gentrain export whole=true keeps it)"

    def forward(self, *_: Any, **__: Any) -> NoReturn:
        """Says that it is not there.

        Raises:
            UserError: always.
        """
        raise UserError(self._said)


def is_export(path: Path) -> bool:
    """Whether `path` is an exported folder, the weights in one, or a kept result without weights."""
    if path.is_file():
        return path.name == WEIGHTS
    if (path / "config.yaml").exists() or (path / "checkpoints").exists():
        return False  # a run
    return any((path / name).is_file() for name in (WEIGHTS, CONFIG, GRAPH, RESULT))


def folder_of(path: Path) -> Path:
    """The folder that `path` is, or lies in."""
    return path.parent if path.is_file() else path


# Writing


def packed(model: nn.Module, dtype: str, without: tuple[str, ...] = ()) -> bytes:
    """The content of model.safetensors.

    Args:
        model: its parameters and buffers are taken as they are.
        dtype: of what is a float, a key of `DTYPES`.
        without: names of submodules that are left out.

    Raises:
        UserError: a weight is not a number.
    """
    weights = {
        # Tied weights share their memory, which safetensors refuses.
        name: value.detach().cpu().to(DTYPES[dtype] if value.is_floating_point() else value.dtype).clone()
        for name, value in model.state_dict().items()
        if not within(name, without)
    }
    if (bad := _not_a_number(weights)) is not None:
        raise UserError(
            f"the weight {bad} is not a number: the model has diverged; take an earlier checkpoint"
        )
    contiguous = {name: value.contiguous() for name, value in weights.items()}
    return safetensors.torch.save(contiguous, {"format": "pt"})


def about(content: bytes, dtype: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """What config.json says of the file that holds `content`."""
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "dtype": dtype,
        "without": list(without),
    }


def write(folder: Path, config: Mapping[str, Any], card: str, name: str, content: bytes) -> None:
    """Write the files of an export into `folder`: the weights, or a graph, `content` under `name`.

    Raises:
        OSError: they cannot be written.
    """
    with open(folder / name, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / CARD, card)


def check_place(folder: Path) -> None:
    """Refuse a place for a new export.

    Raises:
        UserError: something lies there.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"out={folder} is not empty; name another folder, or remove it")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out={folder} is a file; name a folder")


@contextlib.contextmanager
def making(folder: Path, replace: bool = False) -> Iterator[Path]:
    """A new folder beside `folder`, which takes its name when the block ends well, and is removed else.

    Args:
        folder: must be empty, or not there.
        replace: it may hold something: that goes.

    Raises:
        UserError, Fault: as `files.unwritable` says.
    """
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{LEFTOVER}")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        if replace and folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        with contextlib.suppress(OSError):  # not every system syncs a folder
            sync(folder.parent)
    except OSError as error:
        raise unwritable(f"cannot write {folder}", error, "out=FOLDER") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# Reading


def read(folder: Path) -> dict[str, Any]:
    """What an exported folder holds, in the shape of a checkpoint; "without" and "averaged" besides.

    Raises:
        UserError: a file is missing, of a newer format, or says what an export does not say.
        CorruptFile: a file is damaged.
    """
    config = described(folder)
    weights = _weights(folder, config["weights"])
    run = config["run"]
    return {
        "format": config["format"],
        "gentrain": config.get("gentrain"),
        # YAML, of which JSON is a part.
        "config": json.dumps({"model": config["model"], **run}, ensure_ascii=False),
        "names": run["names"],
        "spec": config["spec"],
        "data": _record(config.get("data"), folder),
        "step": config["step"],
        "model": weights,
        "ema": None,
        "averaged": config["averaged"],
        "without": tuple(config["weights"]["without"]),
    }


def described(folder: Path) -> dict[str, Any]:
    """What config.json says, its entries present and of their types.

    Raises:
        UserError, CorruptFile: as for `read`.
    """
    path = folder / CONFIG
    if not path.is_file():
        if (folder / RESULT).is_file():
            raise UserError(
                f"the weights of {folder} are not kept; {folder / RESULT} has the command that makes them"
            )
        raise UserError(f"{folder} is no complete export: {CONFIG} is missing")
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ValueError(f"longer than {_LONGEST:,} bytes")
        config = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is no JSON, or is damaged: {_line(error)}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not of an export: it holds no mapping")
    for key, kind in _NEEDED.items():
        _hold(config, key, kind, path)
    if config["format"] > FORMAT:
        raise UserError(
            f"{path} has format {config['format']}, this gentrain reads up to {FORMAT}: it needs "
            f"gentrain >= {config.get('gentrain')}"
        )
    _hold(config["run"], "names", dict, path)
    _hold(config["run"], "dataset", dict, path)
    if "model" in config["run"]:
        raise UserError(f"{path} is not of an export: it names two models")
    if not 0 <= config["step"] < 2**63:
        raise UserError(f"{path} is not of an export: step is {_short(config['step'])}")
    shape = config["spec"].get("shape")
    if isinstance(shape, list) and all(isinstance(n, int) for n in shape) and math.prod(shape) > _MOST:
        raise UserError(f"{path} is refused: images of more than {_MOST:,} numbers")
    _hold(config["weights"], "sha256", str, path)
    _hold(config["weights"], "without", list, path)
    if not all(isinstance(name, str) for name in config["weights"]["without"]):
        raise UserError(f"{path} is not of an export: weights.without holds more than names")
    return config


def stripped(model: nn.Module, without: tuple[str, ...], may: tuple[str, ...], folder: Path) -> None:
    """Put an `Absent` in place of each network that the export of `model` left out.

    Args:
        model: built from the export's config.
        without: what the export says that it left out.
        may: what the model says that only training needs.
        folder: the export.

    Raises:
        UserError: the model needs one of them.
    """
    for name in without:
        if name not in may:
            raise UserError(f"{folder}: its weights lack {name!r}, which {type(model).__name__} needs")
        setattr(model, name, Absent(name))


def filled(state: Mapping[str, Any], model: nn.Module, may: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights of `state`, with those of `model` itself where the export left them out."""
    without = tuple(name for name in state.get("without", ()) if name in may)
    own = {name: value for name, value in model.state_dict().items() if within(name, without)}
    return {**own, **state["model"]}


def _weights(folder: Path, about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights, held against their SHA-256.

    Raises:
        UserError: no such file; a weight that is not a number.
        CorruptFile: damaged.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        if (folder / GRAPH).is_file():
            raise UserError(f"{folder} holds an ONNX graph, which gentrain does not run; onnxruntime does")
        raise UserError(f"{folder} is no complete export: {WEIGHTS} is missing")
    try:
        content = path.read_bytes()  # once: what was hashed is what is read
        found = hashlib.sha256(content).hexdigest()
        if found != about["sha256"]:
            raise CorruptFile(f"{path} is corrupt: its SHA-256 is not the one in {CONFIG}")
        weights = safetensors.torch.load(content)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CorruptFile(f"{path} is corrupt: {_line(error)}") from error
    if (bad := _not_a_number(weights)) is not None:
        raise UserError(f"{path} is refused: its weight {bad} is not a number")
    return weights


def _record(data: Any, folder: Path) -> dict[str, Any] | None:
    """What the export says of its data as a checkpoint says it: which images, not where they lay.

    Raises:
        UserError: it cannot be read.
    """
    if data is None:
        return None
    if not isinstance(data, dict):
        raise UserError(f"{folder / CONFIG} is not of an export: what it says of its data cannot be read")
    nowhere: dict[str, Any] = {"root": None, "hashes": {}, "twice": torch.empty(0, dtype=torch.int64)}
    return {"digest": data.get("digest"), "counts": data.get("counts"), **nowhere}


def _hold(config: Mapping[str, Any], key: str, kind: type, path: Path) -> None:
    value = config.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found = type(value).__name__ if key in config else "nothing"
        raise UserError(f"{path} is not of a complete export: found {found} as its {key}")


def within(name: str, modules: Sequence[str]) -> bool:
    """Whether the weight `name` is of one of `modules`."""
    return any(name.startswith(f"{module}.") for module in modules)


def _not_a_number(weights: Mapping[str, Tensor]) -> str | None:
    """The first weight that holds a NaN."""
    return next((n for n, v in weights.items() if v.is_floating_point() and bool(v.isnan().any())), None)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _line(error: BaseException) -> str:
    return _short(" ".join(str(error).split()) or type(error).__name__)


def _short(value: object, most: int = 120) -> str:
    text = value if isinstance(value, str) else "a number out of range"
    return text if len(text) <= most else f"{text[:most]}..."
