"""What codes say, and nearest neighbours: numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from gentrain.metrics import codes, neighbours


def test_categories_are_matched_one_to_one_the_best_way() -> None:
    """A greedy match takes (0, 0) first and gets 6 right; the best one gets 7."""
    table = torch.tensor([[4, 3, 0], [4, 0, 1], [0, 0, 2]])
    pairs = [(k, label) for k in range(3) for label in range(3) for _ in range(int(table[k, label]))]
    categories, labels = torch.tensor(pairs).T
    found = codes.matched(categories, labels, 3, 3)
    assert found.label_of == (1, 0, 2)
    assert found.error == pytest.approx(1 - 9 / 14)
    assert found.majority_error == pytest.approx(1 - 10 / 14), "two categories may mean one label"
    more = codes.matched(categories, labels, 4, 3)
    assert more.label_of == (1, 0, 2, -1)
    assert codes.matched(torch.tensor([2, 0]), torch.tensor([0, 1]), 3, 2).error == 0
    with pytest.raises(ValueError, match="no images"):
        codes.matched(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64), 2, 2)


def test_information_of_certain_and_of_blind_answers() -> None:
    drawn = torch.arange(40) % 4
    sure = torch.eye(4)[drawn]
    assert codes.information_of_category(drawn, sure) == (pytest.approx(math.log(4)), pytest.approx(0))
    blind = torch.full((40, 4), 0.25)
    assert codes.information_of_category(drawn, blind)[0] == pytest.approx(0, abs=1e-7)
    c = 2 * torch.rand(4000, generator=torch.Generator().manual_seed(0)) - 1
    noise = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    expected = math.log(2) - math.log(math.sqrt(2 * math.pi * math.e) * 0.1)
    assert codes.information_of_number(c, c + noise) == pytest.approx(expected, abs=0.05)


def test_rank_correlation_is_spearmans() -> None:
    a = torch.tensor([0.1, 0.5, 0.3, 0.9])
    assert codes.rank_correlation(a, a.exp()) == pytest.approx(1)
    assert codes.rank_correlation(a, -a) == pytest.approx(-1)
    assert codes.rank_correlation(a, 0 * a) == 0
    b = (2 * a).round()  # with ties
    assert codes.rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_nearest_neighbours_and_principal_components_are_sklearns() -> None:
    g = torch.Generator().manual_seed(0)
    train, test = torch.randn(700, 6, generator=g), torch.randn(40, 6, generator=g)
    labels, truth = torch.randint(3, (700,), generator=g), torch.randint(3, (40,), generator=g)
    oracle = KNeighborsClassifier(1).fit(train.numpy(), labels.numpy())
    right, error = neighbours.accuracy(train, labels, test, truth)
    assert right == pytest.approx(oracle.score(test.numpy(), truth.numpy()))
    assert error == pytest.approx(math.sqrt(right * (1 - right) / 40))
    found, others = neighbours.principal(train, test, 2)
    pca = PCA(2).fit(train.numpy())
    for ours, theirs in ((found, pca.transform(train.numpy())), (others, pca.transform(test.numpy()))):
        expected = torch.from_numpy(theirs[:, ::-1].copy()).float().abs()  # ours ascend; signs are free
        torch.testing.assert_close(ours.abs(), expected, atol=1e-3, rtol=1e-3)
