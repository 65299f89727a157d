"""The contracts between data, models, the trainer and the commands.

Shape letters used everywhere: B images in a batch, C channels, H height, W width, D latent
dimensions, A attributes, T tokens of a caption. Pixels are integers 0 .. levels-1, stored as uint8, on both
sides of a model.
"""

from gentrain.contracts.calling import check_draws, check_images, check_latents
from gentrain.contracts.capabilities import (
    Completes,
    EncodesDecodes,
    HasLikelihood,
    LikelihoodKind,
    Reconstructs,
    Samples,
    Translates,
    TranslatesBack,
)
from gentrain.contracts.condition import (
    Attributes,
    Caption,
    Condition,
    Conditional,
    Label,
    conditions_of,
)
from gentrain.contracts.data import Batch, DataSpec
from gentrain.contracts.latents import (
    Code,
    HasCodes,
    ImagesToLatents,
    Invertible,
    LatentsToImages,
    MixesConditions,
    StandingStatistics,
)
from gentrain.contracts.model import GenerativeModel, Landmark, Loss, Merit, Turn

__all__ = [
    "Attributes",
    "Batch",
    "Caption",
    "Code",
    "Completes",
    "Condition",
    "Conditional",
    "DataSpec",
    "EncodesDecodes",
    "GenerativeModel",
    "HasCodes",
    "HasLikelihood",
    "ImagesToLatents",
    "Invertible",
    "Label",
    "Landmark",
    "LatentsToImages",
    "LikelihoodKind",
    "Loss",
    "Merit",
    "MixesConditions",
    "Reconstructs",
    "Samples",
    "StandingStatistics",
    "Translates",
    "TranslatesBack",
    "Turn",
    "check_draws",
    "check_images",
    "check_latents",
    "conditions_of",
]
