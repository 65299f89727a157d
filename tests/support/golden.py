"""One short training of every model, kept: what it logged, and hashes of its weights and samples.

`python tests/support/golden.py` trains the models that have no entry for this processor and library, and
keeps a checkpoint from the middle of the run of a model that has none. What is there is never changed by it:
to renew an entry, delete it first, and say in the commit why the numbers had to move.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from running import MODELS
from torch import Tensor

FOLDER = Path(__file__).parent.parent / "golden"
VALUES, CHECKPOINTS = FOLDER / "values.json", FOLDER / "checkpoints"
#: Steps of a run; a checkpoint after half of them is kept.
STEPS = 12
SETTINGS = [
    "dataset=digits",
    "precision=fp32",
    "threads=1",
    "train.batch_size=16",
    "train.log_every=3",
    f"train.eval_every={STEPS // 2}",
    f"train.sample_every={STEPS}",
    f"train.checkpoint_every={STEPS // 2}",
    "train.sample_count=4",
    "train.keep=9",
]
#: Where a processor or a library rounds otherwise, numbers may differ by so much (relative, absolute).
RELATIVE, ABSOLUTE = 1e-5, 1e-5
#: The same in the second half of a run.
LATER = (0.25, 0.01)
#: Small files: what is kept of a model whose layers are wide by default.
SMALLER = {"vae": "model.hidden=[16]", "ae": "model.hidden=[16]", "cvae": "model.hidden=[16]"}
#: Settings that models were given later, as they were before.
FORMERLY = {"text_gan": "model.both_ways=false"}
#: What is not a figure of the model.
CLOCK = ("speed/", "images", "epoch")


def arguments(name: str, run: str) -> list[str]:
    """Of `gentrain` for the golden run of a model, into the folder `run`.

    A setting of the model itself counts, but for the precision: half precisions differ between processors.
    """
    own = [part for part in MODELS[name] if not part.startswith("precision=")]
    own += [more[name] for more in (SMALLER, FORMERLY) if name in more]
    return ["train", *own, *SETTINGS, f"train.steps={STEPS}", f"run_dir={run}"]


def machine() -> str:
    """What decides the bits besides the code: processor, instructions in use, torch; all with one thread."""
    found = {}
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    processor = " ".join(found.get(key, "?") for key in ("model name", "cpu family", "model", "stepping"))
    return f"{processor}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def tensor_hash(tensor: Tensor) -> str:
    """Of a tensor's dtype, shape and bits."""
    tensor = tensor.detach().cpu().contiguous()
    head = f"{tensor.dtype} {list(tensor.shape)}".encode()
    return hashlib.sha256(head + tensor.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def weights_hash(state: dict[str, Tensor]) -> str:
    """Of the sorted list of the tensors' hashes, so that names may change."""
    return hashlib.sha256("".join(sorted(map(tensor_hash, state.values()))).encode()).hexdigest()


def outcome(run: Path) -> dict[str, Any]:
    """What is kept of a finished run: {"losses": {step: {name: figure}}, "weights": hash}."""
    losses: dict[str, dict[str, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        step = str(values.pop("step"))
        figures = {key: value for key, value in values.items() if not key.startswith(CLOCK)}
        losses.setdefault(step, {}).update(figures)
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    kept = [state[part] for part in ("model", "ema") if state[part] is not None]
    return {"losses": losses, "weights": " ".join(map(weights_hash, kept))}


def shown(place: Path | str) -> dict[str, Any]:
    """What a trained model makes: the hash of eight samples, and the first test images' log-likelihood."""
    import gentrain
    from gentrain.contracts import HasLikelihood, Samples

    model: Any = gentrain.load(place)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    if isinstance(model, Samples):
        found["samples"] = tensor_hash(model.sample(8))
    if isinstance(model, HasLikelihood):
        pixels = torch.arange(8 * model.spec.dims).view(8, *model.spec.shape) * 7 % model.spec.levels
        batch = gentrain.Batch(pixels.to(torch.uint8), torch.arange(8) % model.spec.classes)
        log_p, _ = model.log_likelihood(batch.x, condition=model.condition_in(batch))
        found["log_likelihood"] = log_p.tolist()
    torch.set_num_threads(threads)
    return found


def read() -> dict[str, dict[str, Any]]:
    """{machine: {model: entry}}."""
    return json.loads(VALUES.read_text()) if VALUES.is_file() else {}


def main() -> None:
    """Fill in what is missing."""
    values = read()
    here = values.setdefault(machine(), {})
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        checkpoint = CHECKPOINTS / f"{name}.pt"
        if name in here and checkpoint.is_file():
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            command = [sys.executable, "-m", "gentrain", *arguments(name, "run")]
            subprocess.run(command, check=True, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
            wrote = not checkpoint.is_file()  # otherwise it goes on from what another machine rounded
            if wrote:
                shutil.copyfile(run / "checkpoints" / f"step_{STEPS // 2:08d}.pt", checkpoint)
            here[name] = outcome(run) | {"shown": shown(checkpoint), "wrote": wrote}
    VALUES.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
