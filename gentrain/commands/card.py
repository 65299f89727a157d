"""The card of an exported model: a README with the header that the Hugging Face Hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from gentrain.contracts import (
    GenerativeModel,
    HasLikelihood,
    ImagesToLatents,
    LatentsToImages,
    Reconstructs,
    Samples,
    Translates,
)


class Licence(NamedTuple):
    """Of a data set: as the Hub names it, in a few letters, and what its makers say."""

    hub: str
    short: str
    words: str


#: Of the data, and so of weights that are made of them: one row for each class of a data set that we bring.
LICENCES = {
    "Digits": Licence(
        "cc-by-4.0",
        "cc-by-4.0",
        "optical recognition of handwritten digits, in scikit-learn (UCI, Alpaydin & Kaynak 1998), CC BY 4.0",
    ),
    "MNIST": Licence("cc-by-sa-3.0", "cc-by-sa-3.0", "MNIST (LeCun, Cortes & Burges), CC BY-SA 3.0"),
    "BinarizedMNIST": Licence(
        "cc-by-sa-3.0", "cc-by-sa-3.0", "MNIST, binarised by Larochelle & Murray (2011), CC BY-SA 3.0"
    ),
    "FashionMNIST": Licence("mit", "mit", "Fashion-MNIST (Zalando Research), MIT"),
    "CIFAR10": Licence(
        "other", "research-use", "CIFAR-10 (Krizhevsky 2009), no licence is stated; it is used for research"
    ),
    "CelebA": Licence(
        "other", "non-commercial-research", "CelebA (Liu et al. 2015), non-commercial research only"
    ),
}
UNKNOWN = Licence("unknown", "unknown", "of whoever trained it; no licence is stated")


#: Of SPDX's ids those that the Hub knows, in its letters.
HUB = frozenset(
    """
    agpl-3.0 apache-2.0 bsd-2-clause bsd-3-clause cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
    gpl-2.0 gpl-3.0 lgpl-2.1 lgpl-3.0 mit mpl-2.0 ofl-1.1 pddl unlicense wtfpl zlib
    """.split()  # noqa: SIM905
)
#: Letters of a licence's name in the header, at most.
_LONGEST = 60
_ID = r"[A-Za-z0-9][A-Za-z0-9.+-]*"
#: One id of SPDX, or several as its expressions join them.
_EXPRESSION = re.compile(rf"{_ID}(?: (?:AND|OR|WITH) {_ID})*")


def licence_of(dataset: Mapping[str, Any]) -> Licence:
    """Of the data that the settings `dataset` describe: as they state it, or that of their class."""
    stated = dataset.get("license")
    if stated:
        return read_licence(str(stated))
    return LICENCES.get(str(dataset.get("_target_")).rpartition(".")[2], UNKNOWN)


def learnt_from(run: Mapping[str, Any], result: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What tells of a run's data; of a reproduction its experiment's, though they lay as a folder."""
    if result and "data" in result:
        return {"_target_": result["data"], "license": result.get("license")}
    settings: Mapping[str, Any] = run["dataset"]
    return settings


def read_licence(text: str) -> Licence:
    """What `dataset.license` says: an SPDX id or expression, and after a comma whose they are, or words."""
    text = " ".join(text.split())
    expression, _, whose = text.partition(", ")
    if not _EXPRESSION.fullmatch(expression):
        expression, whose = "", text
    hub = expression.lower() if expression.lower() in HUB else "other"
    short = re.sub(r"[^a-z0-9.+]+", "-", (expression or whose).lower()).strip("-")[:_LONGEST]
    words = [whose or "of whoever trained it", *([expression] if expression else [])]
    return Licence(hub, short or "other", ", ".join(words))


def tag_of(model: GenerativeModel) -> str | None:
    """The Hub's word for what `model` does; None where it has none, as for sound."""
    if model.spec.sample_rate is not None:
        return None
    if isinstance(model, Translates):
        return "image-to-image"
    draws = isinstance(model, LatentsToImages) and model.latent_prior != "none"
    if draws or isinstance(model, Samples):
        return "unconditional-image-generation"
    return "image-feature-extraction" if isinstance(model, ImagesToLatents) else None


def written(
    model: GenerativeModel,
    config: Mapping[str, Any],
    picture: str | None = None,
    license: str | None = None,
    result: Mapping[str, Any] | None = None,
    graph: Mapping[str, Any] | None = None,
) -> str:
    """The text of README.md.

    Args:
        model: what is exported.
        config: what its config.json says.
        picture: the name of the file of samples, if there is one.
        license: as the user named it.
        result: of a reproduction, which the weights gave; its "data", the class of its data set, and their
            "license", where it is stated, count before those of the run.
        graph: of an ONNX graph, its file, inputs and shapes.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    names, spec = config["run"]["names"], config["spec"]
    data = licence_of(learnt_from(config["run"], result))
    shape = [str(side) for side in spec["shape"]]
    environment = Environment(
        loader=PackageLoader("gentrain.commands", ""),
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # Markdown, of the user's own words
    )
    environment.filters["cell"] = cell
    likelihood = ["log-likelihood"] if isinstance(model, HasLikelihood) else []
    return environment.get_template("card.md.jinja").render(
        license=license or data.hub,
        data=data,
        tag=tag_of(model),
        dataset=names["dataset"],
        metrics=[metric.partition(".")[2] for metric in result["obtained"]] if result else likelihood,
        tags=["gentrain", "generative-model", names["model"]],
        model=names["model"],
        target=config["model"]["_target_"].rpartition(".")[2],
        step=config["step"],
        shape="x".join(shape),
        graph_shape=", ".join(shape),
        levels=spec["levels"],
        averaged=config["averaged"],
        without=config["weights"]["without"],
        picture=picture,
        figures=figures(result) if result else [],
        again=[measuring(result)] if result else [],
        samples=isinstance(model, Samples),
        commands=[
            f"gentrain {verb} ckpt=FOLDER"
            for verb, kind in (("sample", Samples), ("reconstruct", Reconstructs))
            if isinstance(model, kind)
        ],
        graph=graph,
        versions=config["run"]["made"].get("versions") or {"gentrain": None},
        commit=config["run"]["made"].get("commit"),
        file=config["weights"],
    )


def figures(result: Mapping[str, Any]) -> list[list[str]]:
    """A row for each figure of a reproduction."""

    def number(value: float | None, form: str = ".4g") -> str:
        return "none" if value is None else format(value, form)

    return [
        [
            metric,
            number(obtained, ".6g"),
            number(result["stderr"][metric], ".2g"),
            number(result["published"][metric]),
            result["estimator"][metric],
            result["source"][metric],
        ]
        for metric, obtained in result["obtained"].items()
    ]


def measuring(result: Mapping[str, Any]) -> str:
    """The command that measures the figures of a reproduction again."""
    metrics = list(dict.fromkeys(metric.partition(".")[0] for metric in result["obtained"]))
    words = ["gentrain eval", f"ckpt=results/{result['experiment']}"]
    if metrics != ["likelihood"]:
        words.append(f"metrics=[{','.join(metrics)}]")
    for kind in result["estimator"].values():
        _, dash, count = str(kind).partition(",")[0].rpartition("-")  # IWAE-5000: of a bound, its samples
        if dash and count.isdigit():
            words.append(f"samples={count}")
            break
    return " ".join(words)


def cell(text: object) -> str:
    """`text` in a table of Markdown."""
    return " ".join(str(text).replace("|", "\\|").split())
