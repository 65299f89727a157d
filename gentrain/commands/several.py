"""A setting that takes one path or several: `ckpt=a`, `ckpt=[a,b]`."""

from __future__ import annotations

from gentrain.arguments import top_level
from gentrain.errors import UserError


def several(key: str, value: str) -> list[str]:
    """The paths in `value`, which is one or a list of them in brackets.

    Raises:
        UserError: one of them is empty, or there is none.
    """
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return [value]
    found = [part.strip("'\"") for part in top_level(value[1:-1])]
    if not all(found):
        raise UserError(f"{key}={value}: expected one path or several, {key}=[a,b]; one is empty")
    return found
