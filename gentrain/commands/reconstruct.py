"""`gentrain reconstruct`: images above what the model makes of them."""

from __future__ import annotations

import math

from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.given import given, names_of, with_given
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import named_batch, open_model
from gentrain.config import conform
from gentrain.contracts import Reconstructs
from gentrain.errors import UserError
from gentrain.images import rows_of_eight
from gentrain.schemas import ReconstructConfig
from gentrain.showing import sheet


def run(asked: Asked) -> None:
    """Reconstruct the images that were named; write them above one another, a row of each kind.

    Raises:
        UserError: a model that does not reconstruct, images that cannot be read or that lack their labels.
    """
    config, typed = asked.config, asked.typed
    config = conform(ReconstructConfig, config)
    loaded = open_model(config)
    model = capable(loaded, Reconstructs, "reconstruct")
    out = Output(config, loaded, "reconstructions.png", (".png",))
    one = given(config, loaded, typed)
    batch = with_given(named_batch(config.images, loaded, config), loaded, one)
    try:
        rows = model.reconstructions(batch)
        named = names_of(batch, loaded.model.spec) if len(batch.x) <= 8 else []
        out.name(list(rows) * math.ceil(len(batch.x) / 8), named, "reconstructions")
    except ValueError as error:
        where = "reconstruct" if config.images is None else f"images={config.images}"
        raise UserError(f"{where}: {error}") from error
    levels = loaded.model.spec.levels
    out.png(sheet(rows_of_eight(*rows.values()), loaded.model.spec, columns=min(8, len(batch.x))))
    errors = [
        f"{float((row.float() - batch.x.float()).abs().mean()) / (levels - 1):.4f} {name}"
        for name, row in rows.items()
        if row is not batch.x
    ]
    print(out.wrote(f"{len(batch.x)} images, from top to bottom: {', '.join(rows)}"))
    print(f"error   {', '.join(errors)} (mean absolute, of the range 0 to 1)")
    ckpt = ckpt_argument(loaded)
    print(f"next    {next_command(loaded.model, ckpt, 'interpolate', 'sample', 'eval', config=config)}")
