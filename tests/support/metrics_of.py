"""Which metrics which models have, by themselves: what `gentrain eval` is held against."""

from __future__ import annotations

from gentrain.contracts import (
    GenerativeModel,
    HasCodes,
    HasLikelihood,
    ImagesToLatents,
    MixesConditions,
    Reconstructs,
    Samples,
    Translates,
)

#: What a model must be for each metric, in the order in which they are named; a new one joins with a line.
NEEDS: dict[str, type] = {
    "likelihood": HasLikelihood,
    "reconstruction": Reconstructs,
    "classifier": Samples,
    "probe": ImagesToLatents,
    "translation": Translates,
    "neighbour": ImagesToLatents,
    "frechet": Samples,
    "kid": Samples,
    "prdc": Samples,
    "labels": Samples,
    "captions": Samples,
    "codes": HasCodes,
    "crossing": MixesConditions,
}
#: What the model must be given, for some.
GIVEN = {"labels": "label", "captions": "caption", "crossing": "label"}
#: Those of any data; the others want labels, a classifier's features among them.
OF_ANY_DATA = {"likelihood", "reconstruction", "translation", "captions"}


def fit(*kinds: type, given: str | None = None, labelled: bool = True) -> str:
    """How a refusal ends that says which metrics there are for a model.

    Args:
        kinds: what the model is: its class, or capabilities.
        given: the condition that it takes.
        labelled: whether its data have labels.
    """
    names = [
        name
        for name, needed in NEEDS.items()
        if any(issubclass(kind, needed) for kind in kinds)
        and GIVEN.get(name, given) == given
        and (labelled or name in OF_ANY_DATA)
    ]
    return f"; try metrics=[{','.join(names)}]"


def fit_model(model: GenerativeModel) -> str:
    """`fit` of a model that is there."""
    given = None if model.condition is None else model.condition.name
    return fit(type(model), given=given, labelled=model.spec.classes is not None)


#: What is left for a VAE of data without labels.
UNLABELLED_VAE = fit(HasLikelihood, Reconstructs, ImagesToLatents, Samples, labelled=False)
