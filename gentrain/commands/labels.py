"""Labels as a user types them: by name or by number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gentrain.errors import UserError, did_you_mean, nearest

#: Names that a refusal lists at most.
_MOST = 20


def label_of(item: Any, names: Sequence[str], where: str) -> int:
    """The label that is called `item`, or else has this number.

    Args:
        item: a word, or what Hydra made of one.
        names: of all labels.
        where: what was typed.

    Raises:
        UserError: there is no such label; with the names that are spelt most like it.
    """
    word = str(item).lower() if isinstance(item, bool) else str(item)
    if word in names:
        return names.index(word)
    number = re.fullmatch(r"-?\d+", word)
    if number and 0 <= int(word) < len(names):
        return int(word)
    named = list(names) != list(map(str, range(len(names))))
    near = names if len(names) <= _MOST else nearest(word, names)
    hint = did_you_mean(word, near) if named and not number else ""
    expected = f"0 to {len(names) - 1}" + (" or the name of a label" if named else "")
    raise UserError(f"{where}: expected {expected}, found {item!r}{hint}")
