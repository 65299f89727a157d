import pytest
import torch
from scipy import stats

from gentrain.models.autoencoder.corruption import CORRUPTIONS, corruption


def spoilt(name, level, value=0.3, n=200_000):
    torch.manual_seed(0)
    return corruption(name, level)(torch.full((n,), value))


def near(frequency, p, n=200_000):
    return abs(float(frequency) - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-9


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 1.0])
def test_masking_zeroes_the_share_it_says(level):
    out = spoilt("masking", level)
    assert near((out == 0).float().mean(), level)
    assert set(out.unique().tolist()) <= {0.0, torch.tensor(0.3).item()}


@pytest.mark.parametrize("level", [0.1, 0.5, 1.0])
def test_salt_and_pepper_are_as_frequent(level):
    out = spoilt("salt_and_pepper", level)
    assert near((out == 0).float().mean(), level / 2)
    assert near((out == 1).float().mean(), level / 2)
    assert near((out == 0.3).float().mean(), 1 - level)


@pytest.mark.parametrize("level", [0.2, 1.5])
def test_gaussian_noise_is_normal_and_not_cut(level):
    noise = spoilt("gaussian", level).double() - 0.3
    assert stats.kstest(noise.numpy(), "norm", args=(0, level)).pvalue > 1e-3


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_value_is_spoilt_by_itself_and_the_clean_image_is_left_alone(name):
    torch.manual_seed(0)
    clean = torch.full((50_000, 2, 1, 1), 0.4)
    out = corruption(name, 0.5)(clean)
    assert (clean == 0.4).all()
    assert out.shape == clean.shape
    changed = (out - 0.4).flatten(1)
    assert abs(torch.corrcoef(changed.T)[0, 1]) < 0.025
    assert corruption(name, 0.5)(clean.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("blur", 0.5, r"model\.corruption must be one of masking, gaussian, salt_and_pepper, found 'blur'"),
        ("masking", 0.0, r"model\.level must be above 0, found 0\.0; .*model=ae"),
        ("masking", 1.1, r"model\.level is a probability for masking and must be at most 1, found 1\.1"),
        ("salt_and_pepper", 1.1, r"at most 1"),
        ("gaussian", -1.0, r"model\.level must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(name, level, message):
    with pytest.raises(ValueError, match=message):
        corruption(name, level)
