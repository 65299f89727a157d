"""`gentrain encode`: the latents of images as an .npz, and as points in TensorBoard's projector."""

from __future__ import annotations

import shlex

from tqdm import tqdm

from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.given import given, with_given
from gentrain.commands.latents import check_latents, encoded
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import batches_of, device_of, named_batch, open_data, open_model, split_of
from gentrain.config import conform
from gentrain.contracts import ImagesToLatents
from gentrain.errors import UserError
from gentrain.files import check_folder
from gentrain.projector import CONFIG, save_projector
from gentrain.schemas import EncodeConfig


def run(asked: Asked) -> None:
    """Write `latents` float32 [N, D] and, for a split that has them, `labels` int64 [N].

    With `projector`, the files of TensorBoard's projector too, in the run folder.

    Raises:
        UserError: a model without an encoder, images that cannot be read, a projector without a run folder.
        Fault: latents that are not finite, for the projector.
    """
    config, typed = asked.config, asked.typed
    config = conform(EncodeConfig, config)
    loaded = open_model(config)
    model = capable(loaded, ImagesToLatents, "encode")
    out = Output(config, loaded, "latents.npz", (".npz",))
    if config.projector:
        if loaded.run is None:
            raise UserError(
                f"projector=true writes into a run folder, and {loaded.path} lies in none; "
                "expected ckpt= a run folder, or a file in its checkpoints/"
            )
        check_folder((loaded.run.folder / "projector").absolute(), "projector=true")
    one = given(config, loaded, typed)
    if config.images is not None:
        batch = with_given(named_batch(config.images, loaded, config), loaded, one)
        z, images = encoded(model, [batch], config.projector)
        # Their names come from the data, which only images named by their numbers have.
        spec = loaded.model.spec if loaded.data is None else loaded.data.spec
    else:
        data = open_data(loaded, config)
        plain = batches_of(data, split_of(data, config.split), config, device_of(loaded))
        batches = (with_given(batch, loaded, one) for batch in plain)
        z, images = encoded(model, tqdm(batches, unit="batch", disable=None), config.projector)
        spec = data.spec
    labels = images.label if config.images is None else None
    if config.projector:
        check_latents(z)
    out.npz(latents=z.numpy(), **({} if labels is None else {"labels": labels.numpy()}))
    print(out.wrote(f"latents {list(z.shape)}{'' if labels is None else ', labels'}"))
    if not config.projector:
        print(f"next    {next_command(loaded.model, ckpt_argument(loaded), 'reconstruct', config=config)}")
        return
    assert loaded.run is not None
    folder = loaded.run.folder
    name = f"latents_{config.split if config.images is None else 'images'}_step_{loaded.step}"
    how = ", replaced" if (folder / CONFIG).exists() else ""
    notes = save_projector(folder, name, z, images, spec)
    print(f"wrote   {folder / CONFIG}, {folder / 'projector'} (for TensorBoard's Projector tab){how}")
    print("".join(f"note    {note}\n" for note in notes), end="")
    print(f"next    tensorboard --logdir {shlex.quote(str(folder))}")
