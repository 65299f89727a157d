"""How threads wait for one another on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from running import TESTS, Ended

from gentrain import waiting
from gentrain.waiting import BUSY, IDLE, PATIENCE, Judgement, Load, busy_seconds, threads_of

STAT = """\
cpu  50 0 30 100 9 0 3 1 0 0
cpu0 20 5 10 50 9 1 2 1 0 0
cpu1 30 0 20 50 0 0 1 0 0 0
intr 1 2 3
"""


def test_busy_seconds() -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert busy_seconds(STAT, {0}) == pytest.approx(38 * tick)
    assert busy_seconds(STAT, {0, 1}) == pytest.approx(89 * tick)
    assert busy_seconds(STAT, {7}) == 0


def test_load_is_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"wall": 0.0, "all": 0.0, "own": 0.0}
    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(waiting.time, "process_time", lambda: clock["own"])
    monkeypatch.setattr(waiting, "busy_seconds", lambda stat, cores: clock["all"])
    load = Load({0, 1})
    assert load.others() == 0  # nothing to compare with yet
    clock.update(wall=2.0, all=3.5, own=2.5)
    assert load.others() == pytest.approx(0.5)
    clock.update(wall=4.0, all=4.0, own=4.0)  # of the ticks' coarseness
    assert load.others() == 0


def test_judgement() -> None:
    judgement = Judgement()
    assert not judgement.look(BUSY - 0.01, cores=2, threads=2)
    assert judgement.look(BUSY + 0.01, cores=2, threads=2)  # at once
    assert judgement.look((BUSY + IDLE) / 2, cores=2, threads=2)  # between the two all stays
    calm = [judgement.look(0.0, cores=2, threads=2) for _ in range(PATIENCE)]
    assert calm == [True] * (PATIENCE - 1) + [False]
    # Cores that nobody else wants are ours to spin on; one thread waits for no other.
    assert not judgement.look(2.0, cores=4, threads=2)
    assert judgement.look(2.5, cores=4, threads=2)
    assert not judgement.look(9.0, cores=4, threads=1)


def test_threads_of() -> None:
    import torch

    assert threads_of({"torch": torch}) == torch.get_num_threads()
    assert threads_of({}) == os.cpu_count()
    assert threads_of({"torch": object()}) == os.cpu_count()  # half imported


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_has_set_stands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert waiting.watch() is None


def test_one_watch_for_all_commands(gentrain: Callable[..., Ended]) -> None:
    for _ in range(2):
        assert gentrain("train", "train.steps=2", "dry_run=true").status == 0
    assert [t.name for t in threading.enumerate()].count("gentrain-load") == 1


def in_a_process(code: str, **environment: str) -> list[str]:
    """The words that `code` prints; it may use `waiting`, `torch`, `tasks()` and `product()`."""
    start = """
        import hashlib, os, sys, time
        from gentrain import waiting
        import torch
        def tasks():
            return len(os.listdir("/proc/self/task"))
        def product():
            torch.manual_seed(0)
            x = torch.randn(500, 500)
            return hashlib.sha256((x @ x).softmax(0).numpy().tobytes()).hexdigest()
        product()
    """
    env = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "2", **environment}
    words = [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(code)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


linux = pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="needs Linux")


@linux
def test_pools_are_parked_and_freed_and_change_no_bit() -> None:
    code = """
        assert waiting.gnu_openmp()
        pools = waiting.Pools(3)
        alone = tasks()
        print(alone, product())
        for _ in range(3):
            pools.park()
            pools.park()
            while tasks() < alone + 4: time.sleep(0.01)
            print(tasks(), product())
            pools.free()
            pools.free()
            end = time.monotonic() + 20
            while tasks() > alone and time.monotonic() < end: time.sleep(0.01)
            print(tasks(), product())
    """
    found = in_a_process(code)
    counts = [int(word) for word in found[::2]]
    # The keeper and the three that it manages besides itself.
    assert counts == [counts[0]] + [counts[0] + 4, counts[0]] * 3
    assert len(set(found[1::2])) == 1


@linux
def test_a_busy_machine_is_noticed_and_an_idle_one_too() -> None:
    code = """
        load = {"others": 0.0}
        waiting.INTERVAL = 0.01
        waiting.Load.others = lambda self: load["others"]
        alone = tasks()
        waiting.watch()
        time.sleep(0.2)
        print(tasks() - alone)
        load["others"] = 5.0 + (os.cpu_count() or 1)
        while tasks() <= alone + 1: time.sleep(0.01)
        load["others"] = 0.0
        while tasks() > alone + 1: time.sleep(0.01)
        print("idle")
    """
    assert in_a_process(code) == ["1", "idle"]


def test_threads(gentrain: Callable[..., Ended]) -> None:
    import torch

    usual = torch.get_num_threads()
    small = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.sample_count=1"]
    ended = gentrain("train", *small, "threads=2", "run_dir=run")
    assert ended.status == 0
    assert "(2 threads)" in ended.out
    assert gentrain("sample", "ckpt=run", "threads=2").status == 0
    assert torch.get_num_threads() == 2
    assert gentrain("sample", "ckpt=run").status == 0
    assert torch.get_num_threads() == usual
    ended = gentrain("train", "resume=run", "train.steps=4", "threads=1")
    assert ended.status == 0
    assert "not bit-exact: threads was 2, is 1" in ended.err
    for wrong in ("threads=0", "threads=two"):
        ended = gentrain("train", *small, wrong)
        assert ended.status == 2
        assert "threads: expected" in ended.one_line()
