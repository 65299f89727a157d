"""What classes, settings and weights were called before: kept for good, so that old files load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Settings = dict[str, Any]


def _conv_vae(settings: Settings) -> Settings:
    hidden = settings.get("hidden")  # was one number
    return {"network": "conv", **settings, **({"hidden": [hidden]} if isinstance(hidden, int) else {})}


def _mlp_vae(settings: Settings) -> Settings:
    return {"network": "mlp", "channels": [], "dropout": 0.0, **settings}


_VAE = "gentrain.models.autoencoder.vae"
#: {target of before: (target, its settings from those of before)}.
TARGETS: dict[str, tuple[str, Callable[[Settings], Settings]]] = {
    f"{_VAE}.ConvVAE": (f"{_VAE}.VAE", _conv_vae),
    f"{_VAE}.MLPVAE": (f"{_VAE}.VAE", _mlp_vae),
}
#: {target: {beginning of a weight's name before: its beginning now}}.
WEIGHTS = {
    "gentrain.models.flow.glow.Glow": {
        "scales.": "transform.transforms.1.scales.",
        "priors.": "transform.transforms.1.priors.",
    },
}


def target_of_now(target: Any) -> Any:
    """What `target` is called today."""
    return TARGETS[target][0] if isinstance(target, str) and target in TARGETS else target


def settings_of_now(settings: Mapping[str, Any]) -> Settings:
    """The settings of an object, `_target_` among them, in today's names; those of today as they are."""
    plain = dict(settings)
    target = plain.get("_target_")
    if not isinstance(target, str):
        return plain
    if target not in TARGETS:
        return plain
    now, renew = TARGETS[target]
    return {**renew(plain), "_target_": now}


def weights_of_now(target: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    """{name: weight} of a model that `target` built, in today's names and the same order."""
    beginnings = WEIGHTS.get(target, {})

    def renewed(name: str) -> str:
        for before, now in beginnings.items():
            if name.startswith(before):
                return now + name.removeprefix(before)
        return name

    return {renewed(name): weight for name, weight in weights.items()}
