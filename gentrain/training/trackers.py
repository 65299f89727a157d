"""Trackers of the user's choice beside TensorBoard: any module with the interface of wandb.

What is used of it: `init(project, name, dir, config, id, resume)` -> a run with `log(values, step=)` and
`finish()`; `Image(array)`. A keyword that a module does not know is left out. One that fails is left alone
from then on, with a warning: a run never ends because of it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gentrain.errors import UserError

#: What TensorBoard is called in `track=`.
OURS = "tensorboard"
#: Modules that may be named without `trust=`: a checkpoint's configuration is not to import anything else.
KNOWN = ("wandb", "trackio")


def check_names(names: Sequence[str], trust: Sequence[str], installed: bool = True) -> None:
    """Refuse a tracker that is not known, or not installed.

    Args:
        names: of trackers.
        trust: modules that may be named besides.
        installed: they must be; a resumed run goes on without one that is gone, and warns.

    Raises:
        UserError: says what can be named, or what to install.
    """
    able = [OURS, *KNOWN, *trust]
    for name in names:
        if name not in able:
            own = f"; a module of your own with wandb's interface: trust={name}"
            raise UserError(f"track: expected {', '.join(able)}, found {name!r}{own}")
        if installed and name != OURS and importlib.util.find_spec(name) is None:
            extra = "'gentrain[track]'" if name in KNOWN else name
            raise UserError(f"track={name}: it is not installed: pip install {extra}")


class OtherTracker:
    """One run in a tracker with wandb's interface.

    wandb itself keeps what it is told in the run folder until `wandb sync`; WANDB_MODE=online sends it.

    Args:
        module: its name.
        folder: the run's.
        settings: {dotted key: value} of the configuration.
    """

    def __init__(self, module: str, folder: Path, settings: Mapping[str, float | str]) -> None:
        self.name = module
        self._module: Any = None
        self._run: Any = None
        self._failed = False
        self._try(lambda: self._begin(folder, settings))

    def _begin(self, folder: Path, settings: Mapping[str, float | str]) -> None:
        os.environ.setdefault("WANDB_MODE", "offline")
        self._module = importlib.import_module(self.name)
        # Of a relative folder alone the parent has no name, and a name that begins with / is a path to some.
        named = [part for part in (folder.parent.name, folder.name) if part]
        asked: dict[str, Any] = {
            "project": "gentrain",
            "name": "/".join(named),
            "dir": str(folder),
            "config": dict(settings),
            "id": "".join(c if c.isalnum() or c in "-_" else "-" for c in "-".join(named)),
            "resume": "allow",
        }
        known = inspect.signature(self._module.init).parameters
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
            asked = {key: value for key, value in asked.items() if key in known}
        self._run = self._module.init(**asked)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""
        self._try(lambda: self._run.log(dict(values), step=step))

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """A picture, uint8 [C, height, width]."""
        array = picture.permute(1, 2, 0).numpy()
        array = array[..., 0] if array.shape[-1] == 1 else array
        self._try(lambda: self._run.log({name: self._module.Image(array)}, step=step))

    def close(self) -> None:
        """End the run there."""
        self._try(lambda: self._run.finish())

    def _try(self, act: Callable[[], Any]) -> None:
        if self._failed:
            return
        try:
            act()
        # A tracker may even end the process where it has no account to log in with.
        except (Exception, SystemExit) as error:
            self._failed = True
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(f"{self.name} fails: {line[:200]}; training goes on without it", stacklevel=4)
