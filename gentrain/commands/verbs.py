"""The verbs of the command line: what each does, examples to copy, what it needs of a model.

A verb is a line here, its settings in `schemas.SCHEMAS`, and a module of its name beside this one, which has
`run`. Imports neither torch nor Hydra: `gentrain --help` reads this table and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb.

    text: what it does.
    examples: to copy.
    needs: capabilities by their names in `gentrain.contracts`, of which a model must have one; none where the
        verb is not for one model (`abilities.needed` has the classes).
    """

    text: str
    examples: tuple[str, ...]
    needs: tuple[str, ...] = ()


#: Every verb, in the order in which they are shown.
VERBS = {
    "train": Verb(
        "train a model",
        (
            "gentrain train",
            "gentrain train model=vae dataset=mnist train.epochs=10",
            "gentrain train model=pixelcnn dataset=mnist dataset.binarize=dynamic",
            "gentrain train model=gan dataset=mnist precision=bf16 device=cuda",
            "gentrain train experiment=glow_mnist",
            "gentrain train dataset=folder dataset.root=~/pictures dataset.image_size=64",
            "gentrain train resume=outputs/vae-digits/latest train.steps=4000",
            "gentrain train init=outputs/vae-digits/latest optim.main.lr=1e-4",
            "gentrain train -m model=vae,vae_mlp seed=0,1",
            "gentrain train dry_run=true",
            "torchrun --nproc_per_node=2 -m gentrain train model=vae dataset=mnist",
        ),
        needs=("GenerativeModel",),
    ),
    "reproduce": Verb(
        "train an experiment, measure it, and hold it against its published figure",
        (
            "gentrain reproduce experiment=vae_digits",
            "gentrain reproduce experiment=vae_mnist dataset.root=~/data/mnist",
        ),
    ),
    "sample": Verb(
        "draw images from a trained model",
        (
            "gentrain sample",
            "gentrain sample ckpt=outputs/vae-digits/latest n=100 temperature=0.8",
            "gentrain sample n=50000 out=samples.npz",
            "gentrain sample n=4 seconds=3 out=voices.wav",
            "gentrain sample truncation=0.5 label=3",
            "gentrain sample latents=latents.npz",
        ),
        needs=("Samples",),
    ),
    "eval": Verb(
        "measure a trained model on the test images",
        (
            "gentrain eval",
            "gentrain eval samples=5000 limit=1000",
            "gentrain eval split=validation",
            "gentrain eval metrics=[likelihood,classifier]",
            "gentrain eval metrics=[probe]",
            "gentrain eval metrics=[frechet,kid,prdc] n=10000",
        ),
        needs=(
            "HasLikelihood",
            "Samples",
            "Reconstructs",
        ),
    ),
    "reconstruct": Verb(
        "encode and decode images",
        (
            "gentrain reconstruct",
            "gentrain reconstruct images=0,1,2",
            "gentrain reconstruct images=my.png",
        ),
        needs=("Reconstructs",),
    ),
    "interpolate": Verb(
        "walk between latents",
        (
            "gentrain interpolate",
            "gentrain interpolate images=0,1,2,3 columns=12",
            "gentrain interpolate code=slant",
            "gentrain interpolate 'captions=[a seven above a two,a two above a seven]'",
            "gentrain interpolate columns=24 out=walk.gif",
        ),
        needs=("LatentsToImages",),
    ),
    "arithmetic": Verb(
        "add and subtract latents",
        (
            "gentrain arithmetic",
            "gentrain arithmetic plus=[3,8,12] minus=[5,9,20]",
            "gentrain arithmetic plus=[[3,8,12],[1,2,4]] minus=[5,9,20]",
            "gentrain arithmetic 'plus=[man with glasses,woman]' minus=[man]",
            "gentrain arithmetic images=0,1,2 plus=[7] minus=[1] strength=1.5",
        ),
        needs=("LatentsToImages",),
    ),
    "cross": Verb(
        "children of two pictures, with their lineage",
        (
            "gentrain cross",
            "gentrain cross parents=[12,40] mix=0.5 children=8 temperature=0.5",
            "gentrain cross parents=[12:cat,40:dog]",
            "gentrain cross lineage=lineage.json parents=[0,3]",
        ),
        needs=("LatentsToImages",),
    ),
    "complete": Verb(
        "fill in the unknown part of images",
        (
            "gentrain complete",
            "gentrain complete images=0,1,2,3 known=top",
            "gentrain complete images=my.png known=mask.png n=3",
            "gentrain complete sounds=greeting.wav seconds=2",
        ),
        needs=("Completes",),
    ),
    "translate": Verb(
        "make the images of one domain into those of the other",
        (
            "gentrain translate images=0,1,2,3",
            "gentrain translate images=sketch.png out=photo.png",
            "gentrain translate direction=BtoA images=~/zebras",
        ),
        needs=("Translates",),
    ),
    "encode": Verb(
        "write the latents of images to an .npz",
        (
            "gentrain encode",
            "gentrain encode split=train out=latents.npz",
            "gentrain encode projector=true",
        ),
        needs=("ImagesToLatents",),
    ),
    "export": Verb(
        "write a trained model as a folder to share",
        (
            "gentrain export out=my-vae",
            "gentrain export ckpt=outputs/vae-digits/latest out=my-vae dtype=bf16",
            "gentrain export out=my-decoder format=onnx",
        ),
        needs=("GenerativeModel",),
    ),
    "quiz": Verb(
        "write a page that asks which picture is fake",
        (
            "gentrain quiz n=20 out=quiz.html",
            "gentrain quiz ckpt=outputs/vae-digits/latest show=single seconds=null",
            "gentrain quiz ckpt=[outputs/vae-digits/latest,outputs/gan-digits/latest]",
            "gentrain quiz real=~/photos fake=~/drawn",
            "gentrain quiz results=[a.json,b.json]",
        ),
        needs=("Samples",),
    ),
    "explore": Verb(
        "write a page in which the model runs, to play with",
        (
            "gentrain explore out=explore.html",
            "gentrain explore ckpt=outputs/infogan-digits/latest directions=10",
        ),
        needs=("LatentsToImages",),
    ),
    "report": Verb(
        "write a page of a run, or of several beside one another",
        (
            "gentrain report ckpt=latest",
            "gentrain report ckpt=latest animation=true",
            "gentrain report ckpt=[outputs/runs/a,outputs/runs/b] out=compared.html",
            "gentrain report ckpt=outputs/sweeps/2026-01-31_12-00-00",
        ),
    ),
    "doctor": Verb(
        "say what works on this machine, and what to type for what does not",
        ("gentrain doctor",),
    ),
    "list": Verb(
        "show models by family, what each can do, data sets, experiments, metrics",
        ("gentrain list",),
    ),
}
