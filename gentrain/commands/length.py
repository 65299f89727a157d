"""What follows a run's length: learning-rate schedules, however it is given and whenever it changes.

`train.steps` is the length. What depends on it, `T_max: ${train.steps}`, is saved as it was written: a run
that is resumed with another length has the schedule of a run that was begun with it.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

#: Settings of schedules that are lengths, in updates.
LENGTHS = ("T_max", "total_steps", "total_iters")
STEPS = "${train.steps}"


def saved_text(config: DictConfig) -> str:
    """`config` as YAML, resolved, but for what depends on `train.steps`: that is kept as it was written."""
    other = config.copy()
    other.train.steps += 1
    now, then = (OmegaConf.to_container(c, resolve=True) for c in (config, other))
    written = OmegaConf.to_container(config, resolve=False)
    return OmegaConf.to_yaml(OmegaConf.create(_unless_it_differs(now, then, written)))


def _unless_it_differs(now: Any, then: Any, written: Any) -> Any:
    """`now`, with what is not the same in `then` as it stands in `written`."""
    if now == then:
        return now
    if isinstance(written, dict):
        return {key: _unless_it_differs(now[key], then[key], written[key]) for key in written}
    if isinstance(written, list):
        return [_unless_it_differs(*three) for three in zip(now, then, written, strict=True)]
    return written


def follow(saved: DictConfig, length: int) -> list[str]:
    """Let the schedules of a run from before lengths were kept as they were written follow its length.

    Args:
        saved: its configuration; a length in `schedule` that equals the run's becomes `${train.steps}`.
        length: what `train.steps` was.

    Returns:
        What follows now, for the reader: `schedule.main.T_max=1000`.
    """
    if saved.made.versions:  # lengths are as they were written
        return []
    found = []
    for turn, node in saved.schedule.items():
        for key in LENGTHS:
            if isinstance(node, DictConfig) and node.get(key) == length:
                found.append(f"schedule.{turn}.{key}={node[key]}")
                node[key] = STEPS
    return found


def changed_schedules(before: DictConfig, now: DictConfig) -> list[str]:
    """The turns whose schedules are not those that the run had."""
    old, new = (OmegaConf.to_container(config.schedule, resolve=True) for config in (before, now))
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    return [str(turn) for turn in new if new[turn] != old.get(turn)]
