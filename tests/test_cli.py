"""The command line: what it says of a user's mistakes, and that it leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from metrics_of import fit
from running import Ended, environment, run_process, toy

from gentrain.arguments import prepared
from gentrain.commands.verbs import VERBS
from gentrain.contracts import Samples
from gentrain.errors import UserError
from gentrain.training.tracking import Tracker
from gentrain.training.trainer import Outcome, Trainer

#: What is typed, and what the one line must hold.
MISTAKES = [
    (["trian"], ["unknown command 'trian'", "train"]),
    (["model=vae"], ["gentrain train model=vae"]),
    (["train", "model=vea"], ["no such model", "did you mean vae"]),
    (["train", "dataset=minst"], ["no such dataset", "mnist"]),
    (["train", "modle=vae"], ["unknown key modle", "model"]),
    (["train", "lr=3e-4"], ["unknown key lr", "optim.main.lr"]),
    (["train", "optim.lr=3e-4"], ["unknown key optim.lr", "optim.main.lr"]),
    (["train", "train.stpes=3"], ["unknown key train.stpes", "train.steps"]),
    (["train", "batch_size=3"], ["unknown key batch_size", "train.batch_size"]),
    (["train", "+typo=1"], ["unknown key typo"]),
    (["train", "+train.typo=1"], ["unknown key train.typo"]),
    (["train", "+model.latnt_dim=3"], ["unknown key model.latnt_dim", "model.latent_dim"]),
    (["train", "+optim.main.lrr=3"], ["unknown key optim.main.lrr", "optim.main.lr"]),
    (["train", "+dataset.rot=x"], ["unknown key dataset.rot", "dataset.root"]),
    (["train", "train.steps=abc"], ["train.steps", "abc"]),
    (["train", "train.steps=1.5"], ["train.steps", "1.5"]),
    (["train", "train.steps=0"], ["train.steps: expected at least 1", "found 0"]),
    (["train", "train.ema=1"], ["train.ema: expected at least 0 and below 1, found 1"]),
    (["train", "train.compile=maybe"], ["train.compile", "maybe"]),
    (["train", "seed=-1"], ["seed: expected at least 0", "found -1"]),
    (["train", "precision=fp8"], ["precision: expected one of auto, fp32, bf16, fp16", "fp8"]),
    (["train", "device=gpu"], ["device: expected auto, cpu, cuda, cuda:N or mps", "gpu"]),
    (["train", "optim.main.lr=-1"], ["optim.main", "-1"]),
    (["train", "optim.main.lr=nan"], ["optim.main.lr", "nan"]),
    (["train", "optim.main.lr=fast"], ["optim.main", "fast"]),
    (["train", "optim.discriminator.lr=1"], ["unknown key optim.discriminator", "optim.main.lr"]),
    (["train", "+optim.extra={_target_:torch.optim.Adam}"], ["unknown key optim.extra", "main"]),
    (["train", "model.latent_dim=big"], ["model.latent_dim: expected int, found 'big'"]),
    (["train", "model.latent_dim=true"], ["model.latent_dim: expected int, found True"]),
    (["train", "model.latent_dim=0"], ["latent_dim", "found 0"]),
    (["train", "model.likelihood=bernouli"], ["likelihood", "bernoulli", "bernouli"]),
    (["train", "model._target_=os.system"], ["model._target_", "'os.system' is refused"]),
    (["train", "model._target_=torch.hub.load"], ["'torch.hub.load' is refused"]),
    (["train", "model._target_=gentrain.api.torch.load"], ["model._target_", "gentrain.api.torch.load"]),
    (["train", "model._target_=torch.optim.Adam"], ["refused: expected a subclass of GenerativeModel"]),
    (["train", "+model.extra={_target_:os.system}"], ["model.extra"]),
    (["train", "model.channels=[{_target_:os.system}]"], ["model.channels._target_ is refused"]),
    (["train", "optim.main._target_=os.system"], ["optim.main._target_", "refused"]),
    (["train", "optim.main._target_=torch.optim.Adamm"], ["optim.main._target_", "Adamm"]),
    (["train", "dataset._target_=os.system"], ["dataset._target_", "refused"]),
    (["train", "train.batch_size=5000"], ["5000", "1,350", "train.batch_size"]),
    (["train", "train.accumulate=3"], ["train.accumulate=3", "not divisible"]),
    (["train", "train.steps=5", "train.epochs=1"], ["train.steps and train.epochs"]),
    (["train", "dataset.binarize=sometimes"], ["dataset.binarize", "sometimes"]),
    (["train", "dataset.validation=-3"], ["dataset.validation", "-3"]),
    (["train", "dataset.validation=5000"], ["dataset.validation", "5000"]),
    (["train", "dataset=folder"], ["dataset.root"]),
    (["train", "dataset=folder", "dataset.root=nowhere"], ["dataset.root", "nowhere"]),
    (["train", "model=vae,vae_mlp"], ["model has several values; add -m"]),
    (["train", "seed=0,1"], ["seed has several values; add -m"]),
    (["train", "model.channels=8,16"], ["for a list write model.channels=[8,16]", "add -m to train each"]),
    (["eval", "metrics=likelihood,probe"], ["for a list write metrics=[likelihood,probe]"]),
    (["train", "schedule.main.T_max=8"], ["schedule.main._target_=torch.optim.lr_scheduler"]),
    (["train", "schedule.mian.T_max=8"], ["unknown key schedule.mian", "did you mean schedule.main?"]),
    (["train", "~train.ema"], ["train.ema cannot be removed", "train.ema=null"]),
    (["train", "~train.steps"], ["train.steps cannot be removed; give it another value"]),
    (["sample", "~temperature"], ["temperature cannot be removed"]),
    (["sample", "~label"], ["label=null"]),
    (["train", "--info", "nonsense"], ["--info: expected one of all, config, defaults"]),
    (["train", "run_dir=~nobody-of-this-name/x"], ["run_dir=~nobody-of-this-name/x: no home folder"]),
    (["train", "model='"], ["cannot read"]),
    (["train", "resume=nowhere"], ["no run at nowhere"]),
    (["train", "init=nowhere"], ["no run at nowhere"]),
    (["train", "--config-dir", "nowhere"], ["nowhere"]),
    (["train", "seed=${foo}"], ["seed", "foo"]),
    (["train", "dataset.cache=${oc.env:NOPE}"], ["dataset.cache", "NOPE"]),
    (["train", "model=null"], ["model=null: expected a name"]),
    (["train", "=1"], ["expected a name"]),
    (["train", "--resolve"], ["--resolve goes with --cfg"]),
    (["train", "--cfg", "foo"], ["--cfg: expected one of job, hydra, all"]),
    (["train", "--lr=3"], ["unknown option --lr", "key=value"]),
    (["train", "optim.main.betas=[0.9]"], ["optim.main.betas: expected a list of 2 numbers, found [0.9]"]),
    (["train", "optim.main.fused=abc"], ["optim.main.fused", "abc"]),
    (["train", "optim.main.lr=null"], ["optim.main.lr: expected a number"]),
    (["train", "run_dir="], ["run_dir is empty"]),
    (["train", "dataset.cache="], ["dataset.cache is empty"]),
    (["train", "mdoel=vae"], ["unknown key mdoel; did you mean model?"]),
    (["train", "model=VAE"], ["did you mean vae"]),
    (["train", "names.model=x"], ["names.model is filled in by the command"]),
    (["train", "~seed"], ["seed cannot be removed"]),
    (["train", "device=cpu:5"], ["device: expected auto", "cpu:5"]),
    (["train", "train.sample_count=99999999"], ["train.sample_count", "at most 4096"]),
    (["interpolate", "rows=100000000"], ["rows", "at most 1000"]),
    (["sample"], ["no run in", "gentrain train"]),
    (["sample", "ckpt=nowhere.pt"], ["no run at nowhere.pt"]),
    (["sample", "temperature=0"], ["temperature: expected above 0, found 0"]),
    (["sample", "temperature=-1"], ["temperature"]),
    (["sample", "temperature=nan"], ["temperature"]),
    (["sample", "n=0"], ["n: expected at least 1"]),
    (["sample", "cpkt=x"], ["unknown key cpkt", "ckpt"]),
    (["sample", "model=vae"], ["unknown key model"]),
    (["eval", "split=tset"], ["split: expected one of train, validation, test", "did you mean test"]),
    (["reconstruct", "image=x.png"], ["unknown key image", "images"]),
    (["interpolate", "columns=1"], ["columns: expected at least 2", "found 1"]),
    (["list", "modles"], ["modles"]),
    (["train", "precision=fp9"], ["expected one of auto, fp32, bf16, fp16, found 'fp9'"]),
    (
        ["train", "dataset=captions", "dataset.root=x", "dataset.facts=[a]"],
        ["dataset.facts", "{NAME: VALUE}"],
    ),
    (["train", "model=infogan", "model.codes=digit:10"], ["expected a list, model.codes=[digit:10], found"]),
]


@pytest.mark.parametrize(("typed", "parts"), MISTAKES, ids=[" ".join(t) for t, _ in MISTAKES])
def test_a_mistake_gets_one_line(
    gentrain: Callable[..., Ended],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    parts: list[str],
) -> None:
    def fit(self: Trainer, *given: Any) -> None:
        pytest.fail("it trained")

    monkeypatch.setattr(Trainer, "fit", fit)
    ended = gentrain(*typed)
    assert ended.status == 2, ended.err
    line = ended.one_line()
    for part in parts:
        assert part in line
    assert ended.err.count("\n") == 1, "one line and nothing else"
    assert list(workplace.iterdir()) == [], "nothing is left behind"


def test_help_is_fast_and_shows_examples(workplace: Path) -> None:
    run_process("--help", cwd=workplace)  # the bytecode
    times = []
    for _ in range(3):
        began = time.perf_counter()
        ended = run_process("--help", cwd=workplace)
        times.append(time.perf_counter() - began)
    assert ended.status == 0
    for verb in VERBS:
        assert f"gentrain {verb}" in ended.out
    assert min(times) < 0.3


def test_help_imports_neither_torch_nor_hydra(workplace: Path) -> None:
    script = (
        "import sys; from gentrain.cli import main; main(['--help'])\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environment(), stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(gentrain: Callable[..., Ended], verb: str) -> None:
    ended = gentrain(verb, "--help")
    assert ended.status == 0
    for example in VERBS[verb].examples:
        assert example in ended.out


def test_cfg_shows_what_would_run(gentrain: Callable[..., Ended], workplace: Path) -> None:
    ended = gentrain("train", "--cfg", "job", "train.steps=7", "seed=5")
    assert ended.status == 0
    shown = yaml.safe_load(ended.out)
    assert shown["train"]["steps"] == 7
    assert shown["seed"] == 5
    assert list(workplace.iterdir()) == []


def test_a_dry_run_says_all_and_writes_nothing(gentrain: Callable[..., Ended], workplace: Path) -> None:
    ended = gentrain("train", "dry_run=true", "train.epochs=3")
    assert ended.status == 0, ended.err
    for part in ("parameters", "1,350", "outputs/vae-digits", "MiB", "steps of", "levels"):
        assert part in ended.out, part
    config = yaml.safe_load("model:" + ended.out.partition("\nmodel:")[2].rpartition("dry run:")[0])
    assert config["train"]["epochs"] == 3
    assert list(workplace.iterdir()) == []


def test_the_traceback_is_for_who_asks(workplace: Path) -> None:
    ended = run_process("train", "model=vea", cwd=workplace, GENTRAIN_DEBUG="1")
    assert ended.status == 2
    assert "Traceback" in ended.err


def test_a_place_that_cannot_be_written_is_said_before_data_are_read(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gentrain.data.digits import Digits

    monkeypatch.setattr(Digits, "load", lambda self: pytest.fail("the data were read"))
    Path("outputs").write_text("a file")
    assert "outputs: it is not a folder" in gentrain("train").one_line()
    assert "cannot write to /proc/x" in gentrain("train", "run_dir=/proc/x").one_line()


def test_odd_characters_in_paths(gentrain: Callable[..., Ended], workplace: Path) -> None:
    odd = "my runs/a=b, (c) 'd' [e]"
    done = gentrain("train", "model=vae_mlp", "train.steps=2", f"run_dir={odd}")
    assert done.status == 0, done.err
    assert (workplace / odd / "checkpoints" / "last.pt").is_file()
    done = gentrain("sample", f"ckpt={odd}", f"out={odd}/x, y.png", "n=4")
    assert done.status == 0, done.err
    assert (workplace / odd / "x, y.png").is_file()


@given(st.text(st.characters(exclude_characters="$\x00", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_path_survives_the_parser(value: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hypothesis import assume

    assume(
        value.strip()
        and value != "null"
        and not value.strip().startswith("~")  # homes are expanded, or refused
        and not (len(value) > 1 and value[0] in "'\"" and value[-1] == value[0])
    )
    quoted = prepared(f"ckpt={value}", {"ckpt"}, sweep=False)
    assert OverridesParser.create().parse_override(quoted).value() == value


def test_a_sweep_and_its_table(gentrain: Callable[..., Ended], workplace: Path) -> None:
    settings = ["train.steps=2", "model.latent_dim=4", "train.batch_size=16"]
    done = gentrain("train", "-m", "model=vae,vae_mlp", "seed=0,1", *settings)
    assert done.status == 0, done.err
    (sweep,) = (workplace / "outputs" / "sweeps").iterdir()
    folders = [f for f in sweep.iterdir() if f.is_dir()]
    assert len(folders) == 4
    table = done.out[done.out.rindex("\nsweep") :]
    for model in ("vae", "vae_mlp"):
        for seed in (0, 1):
            assert f"model={model} seed={seed}" in table
    assert table.count("bits_per_dim") == 4
    assert "latent_dim" not in table, "only what differs"
    assert {f.name for f in workplace.iterdir()} == {"outputs"}, "Hydra leaves nothing of its own"


TINY = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.batch_size=16", "train.sample_count=4"]


def test_a_sweep_over_paths(gentrain: Callable[..., Ended], workplace: Path) -> None:
    done = gentrain("train", "-m", *TINY, "seed=0,1", "run_dir=runs/q, ${seed}")
    assert done.status == 2, "a comma stands between two values"
    done = gentrain("train", "-m", *TINY, "seed=0,1", "run_dir='my runs/q, ${seed}'")
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1] == "curves  tensorboard --logdir 'my runs'"
    assert not Path("outputs/sweeps").exists(), "the runs have folders of their own"
    both = "'my runs/q, 0','my runs/q, 1'"
    done = gentrain("train", "-m", f"resume={both}", "train.steps=4")
    assert done.status == 0, done.err
    table = done.out[done.out.rindex("\nsweep") :]
    assert "resume='my runs/q, 0'" in table
    assert "train.steps" not in table, "only what differs"
    done = gentrain("sample", "-m", f"ckpt=choice({both})", "n=4")
    assert (done.status, done.out.count("step 4)")) == (0, 2), done.err
    done = gentrain("train", "-m", *TINY, f"init={both}")
    assert (done.status, done.out.count("\ndone ")) == (0, 2), done.err


def test_a_mistake_in_a_sweep_runs_nothing(gentrain: Callable[..., Ended], workplace: Path) -> None:
    ended = gentrain("train", "-m", "model=vae,vea", "train.steps=2")
    assert ended.status == 2
    assert "no such model" in ended.one_line()
    assert list(workplace.iterdir()) == []


def test_a_mistake_later_in_a_sweep_does_not_end_it(gentrain: Callable[..., Ended], workplace: Path) -> None:
    ended = gentrain("train", "-m", "model=vae_mlp", "model.hidden=[8]", "train.steps=2,0,3")
    assert ended.status == 2
    assert "train.steps: expected at least 1" in ended.one_line()
    table = ended.out[ended.out.rindex("\nsweep") :].splitlines()
    assert [line.split()[0] for line in table if "train.steps" in line] == [
        *("train.steps=2", "train.steps=0", "train.steps=3")
    ]
    assert "failed" in next(line for line in table if "train.steps=0" in line)
    first = gentrain("train", "-m", "model=vae_mlp", "train.steps=0,2")
    assert first.status == 2
    assert len(list((workplace / "outputs" / "sweeps").iterdir())) == 1, (
        "a first mistake ends it: nothing is lost"
    )


@pytest.mark.parametrize("kind", [OSError, UserError])
def test_control_c_in_a_librarys_midst_is_control_c(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, gentrain: Callable[..., Ended]
) -> None:
    """Whatever it raises when it puts back what it has changed; with no such beginning it is what it is."""

    def interrupted(*_: object) -> int:
        try:
            raise KeyboardInterrupt
        finally:
            raise kind("half made")

    monkeypatch.setattr("gentrain.cli.dispatch", interrupted)
    done = gentrain("train")
    assert (done.status, done.err) == (130, "gentrain: interrupted\n")

    def failing(*_: object) -> int:
        raise kind("half made")

    monkeypatch.setattr("gentrain.cli.dispatch", failing)
    done = gentrain("train")
    assert done.status in (1, 2)
    assert "half made" in done.err


def test_an_interrupted_sweep_shows_what_it_has(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, begun = Trainer.fit, []

    def interrupted(self: Trainer, *given: Any) -> Outcome:
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return fit(self, *given)

    monkeypatch.setattr(Trainer, "fit", interrupted)
    ended = gentrain("train", "-m", "model=vae_mlp", "model.hidden=[8]", "train.steps=2", "seed=5,6,7")
    assert (ended.status, len(begun)) == (130, 2)
    table = ended.out[ended.out.rindex("\nsweep") :]
    assert "seed=5" in table
    assert "stopped" in table
    assert "jobs after this one were not begun" in table


@pytest.mark.parametrize("module", ["numpy", "numpy.dtypes", "torch.nn", "hydra"])
def test_control_c_during_imports(workplace: Path, module: str) -> None:
    script = f"""
import os, signal, sys
from importlib.abc import MetaPathFinder
class Interrupting(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
from gentrain.cli import main
sys.exit(main(["train", "train.steps=2"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=workplace, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "gentrain: interrupted\n")
    assert list(workplace.iterdir()) == []


def test_control_c_between_the_first_file_and_the_first_step(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Tracker.__init__

    def interrupted(self: Tracker, *arguments: Any) -> None:
        made(self, *arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Tracker, "__init__", interrupted)
    ended = gentrain("train", "model=vae_mlp", "train.steps=50", "run_dir=run")
    assert ended.status == 130
    assert "stopped at step 1 of 50, saved; go on with: gentrain train resume=run" in ended.one_line()
    assert Path("run/checkpoints/last.pt").is_file()


def test_a_dry_run_refuses_what_the_run_would(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert "nope" in gentrain("train", "init=nope", "dry_run=true").one_line()
    (workplace / "mine").mkdir()
    (workplace / "mine" / "file").touch()
    for dry in ("true", "false"):
        ended = gentrain("train", "run_dir=mine", f"dry_run={dry}")
        assert (ended.status, "is not empty" in ended.one_line()) == (2, True)
    assert [path.name for path in workplace.rglob("*")] == ["mine", "file"]


def test_a_corrupt_checkpoint_and_where_a_whole_one_is(gentrain: Callable[..., Ended]) -> None:
    small = ("model=vae_mlp", "model.hidden=[8]", "train.checkpoint_every=2", "run_dir=a b")
    assert gentrain("train", *small, "train.steps=4").status == 0
    last = Path("a b/checkpoints/last.pt")
    last.unlink()  # a link to, or a copy of, the newest
    last.write_bytes(b"x")
    said = gentrain("sample", "ckpt=a b").one_line()
    assert "is corrupt" in said
    (word,) = [w for w in shlex.split(said.partition("whole one: ")[2]) if w.startswith("ckpt=")]
    assert gentrain("sample", word).status == 0
    for file in last.parent.iterdir():
        file.write_bytes(b"x")
    assert "whole one" not in gentrain("sample", "ckpt=a b").one_line()


def test_own_models_and_data_sets(gentrain: Callable[..., Ended], workplace: Path) -> None:
    """A package of one's own: its YAML by --config-dir, its classes by trust."""
    arguments = toy("toy_gan", "train.steps=4")
    untrusted = gentrain("train", *[a for a in arguments if not a.startswith("trust")])
    assert untrusted.status == 2
    assert "trust=toys" in untrusted.one_line()
    assert gentrain("train", *arguments).status == 0
    refused = gentrain("sample")
    assert refused.status == 2, "what a checkpoint names is trusted by the caller alone"
    assert "trust=toys" in refused.one_line()
    assert gentrain("sample", "trust=[toys]").status == 0
    cannot = gentrain("eval", "trust=[toys]")
    assert cannot.status == 2
    assert f"eval: toy_gan has no likelihood{fit(Samples)}" in cannot.one_line()


def test_shell_completion(workplace: Path) -> None:
    def complete(line: str) -> list[str]:
        ended = run_process(
            "-sc", "query=bash", cwd=workplace, COMP_LINE=line, COMP_POINT=str(len(line)), _HYDRA_COMP="1"
        )
        assert ended.status == 0, ended.err
        return ended.out.split()

    assert set(complete("gentrain ")) == set(VERBS)
    assert complete("gentrain tra") == ["train", "translate"]
    assert "model=vae" in complete("gentrain train model=")
    assert any(c.startswith("train.steps=") for c in complete("gentrain train train.st"))


def test_out_of_memory_says_what_to_lower(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(self: Trainer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(Trainer, "one_step", full)
    ended = gentrain("train", "model=vae_mlp", "train.steps=2")
    assert ended.status == 1
    assert "out of memory" in ended.one_line()
    assert "train.batch_size" in ended.one_line()
    assert "train.accumulate" in ended.one_line()


@pytest.mark.slow
def test_really_out_of_memory(workplace: Path) -> None:
    """The system itself refuses the memory."""
    import resource

    process = subprocess.Popen(
        [sys.executable, "-m", "gentrain", "train", "model=vae_mlp", "model.hidden=[60000000]"],
        cwd=workplace,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30)),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "out of memory" in err
    assert not os.path.exists(workplace / "outputs")


def test_a_run_that_failed_hides_no_good_one(gentrain: Callable[..., Ended]) -> None:
    tiny = ["model=vae_mlp", "train.batch_size=16"]
    assert gentrain("train", *tiny, "train.steps=2").status == 0
    failed = gentrain("train", *tiny, "optim.main.lr=1e30", "train.steps=20", "train.log_every=1")
    assert failed.status == 1
    assert "not finite" in failed.one_line()
    sampled = gentrain("sample", "n=4")
    assert sampled.status == 0, sampled.err
    assert "has no checkpoint; taking" in sampled.out
