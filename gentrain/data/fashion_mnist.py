"""Fashion-MNIST, in MNIST's format.

[1] H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms", 2017, arXiv:1708.07747.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from gentrain.data.mnist import MNIST


class FashionMNIST(MNIST):
    """60,000 training and 10,000 test pictures of clothes, 1x28x28, 256 levels, 10 classes [1].

    As `MNIST`, in `root`/FashionMNIST/raw. Checksums are published of the .gz files alone, which are
    therefore preferred; unpacked ones are taken where there is no .gz, and the summary says that they
    were not compared.
    """

    name = "fashion_mnist"
    torchvision_name = "FashionMNIST"
    places = "there, in FashionMNIST/raw and in raw"
    #: As torchvision spells them.
    label_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    md5: ClassVar[Mapping[str, str]] = {}
