"""`gentrain doctor`: a line for everything, and what to type for what does not work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Ended

from gentrain.commands import doctor


def lines(ended: Ended) -> dict[str, tuple[str, str]]:
    """{thing: (mark, what was found)}."""
    found = {}
    for line in ended.out.splitlines():
        mark, _, rest = line.partition("  ")
        if mark in ("ok", "NO", "--"):
            name, _, words = rest.partition("  ")
            found[name] = (mark, words.strip())
    return found


def test_a_machine_that_works(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENTRAIN_DATA", raising=False)
    done = gentrain("doctor", "device=cpu")
    assert done.status == 0, done.err
    found = lines(done)
    wanted = {
        "versions",
        "settings",
        "device",
        "threads",
        "fp32",
        "bf16",
        "runs",
        "cache",
        "data",
        "TensorBoard",
    }
    wanted |= {"TensorBoard"}
    assert {name for name in wanted if found[name][0] != "ok"} == set()
    assert "GFLOP/s" in found["device"][1]
    assert found["runs"][1].startswith(str(workplace / "outputs"))
    assert done.out.splitlines()[-1] == "next    gentrain train"
    assert list(workplace.iterdir()) == []


def test_what_does_not_work_says_what_to_type(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every run needs ends it with status 1; what can be done without does not."""
    monkeypatch.setenv("GENTRAIN_DATA", "nowhere")
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(doctor, "extras", lambda: {"onnx": ["onnx", "no-such-package"]})
    done = gentrain("doctor", "device=cpu")
    assert done.status == 0, done.err
    found = lines(done)
    assert [found[name][0] for name in ("data", "compiler", "extra onnx")] == ["--"] * 3
    assert "type: pip install 'gentrain[onnx]'" in done.out
    assert "without no-such-package" in found["extra onnx"][1]
    Path("file").touch()
    monkeypatch.setenv("GENTRAIN_CACHE", os.path.abspath("file"))
    done = gentrain("doctor", "device=cpu")
    assert done.status == 1
    assert lines(done)["cache"][0] == "NO"
    assert "type: export GENTRAIN_CACHE=FOLDER" in done.out
    assert done.one_line() == "gentrain: cache: what does not work is above, with what to type"


def test_a_check_that_fails_is_a_finding(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> float:
        raise ArithmeticError("2 + 2")

    monkeypatch.setattr(doctor, "product_seconds", wrong)
    done = gentrain("doctor", "device=cpu")
    assert done.status == 1
    assert lines(done)["device"] == ("NO", "ArithmeticError: 2 + 2")
    assert lines(done)["TensorBoard"][0] == "ok", "the others are tried all the same"


def test_a_device_that_is_not_there(gentrain: Callable[..., Ended]) -> None:
    done = gentrain("doctor", "device=cuda:99")
    assert done.status == 2
    assert "CUDA devices" in done.one_line()


def test_extras_are_those_of_the_package() -> None:
    found = doctor.extras()
    assert found == {} or set(found["onnx"]) == {"onnx", "onnxruntime", "onnxscript"}
    assert "dev" not in found
