import pytest
import torch

from gentrain.layers.activation import ACTIVATIONS, Tanh, activation, tanh_by_sigmoid
from gentrain.layers.mlp import MLP, Linear


def test_an_activation_lies_between_linear_layers_and_not_after_the_last():
    mlp = MLP([5, 7, 6, 3], "tanh")
    kinds = [Linear, Tanh, Linear, Tanh, Linear]
    assert [type(layer) for layer in mlp] == kinds
    assert mlp(torch.randn(2, 4, 5)).shape == (2, 4, 3)


def test_weights_start_as_glorot_and_bengio_say():
    torch.manual_seed(0)
    layer = MLP([300, 200], "relu")[0]
    assert layer.weight.abs().max().item() == pytest.approx((6 / 500) ** 0.5, rel=0.01)
    assert (layer.bias == 0).all()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_nonlinear_and_fresh(name):
    f = activation(name)
    x = torch.tensor([-2.0, 2.0])
    assert f(x).sum().abs() > 1e-3 or not torch.equal(f(x), x)
    assert activation(name) is not f


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match=r"model\.activation must be one of .*relu.*, found 'sine'"):
        MLP([2, 2, 2], "sine")
    for sizes in ([3], [3, 0, 2]):
        with pytest.raises(ValueError, match="sizes"):
            MLP(sizes, "relu")


def test_the_compiled_tanh_is_the_tanh():
    x = torch.linspace(-30, 30, 100_001, dtype=torch.float64, requires_grad=True)
    assert (tanh_by_sigmoid(x) - x.tanh()).abs().max() < 1e-15
    ours, theirs = (torch.autograd.grad(y.sum(), x)[0] for y in (tanh_by_sigmoid(x), x.tanh()))
    assert (ours - theirs).abs().max() < 1e-15
    half = torch.linspace(-5, 5, 1001, dtype=torch.bfloat16)
    assert tanh_by_sigmoid(half).dtype == torch.bfloat16
    # Not 2 s - 1 of a sigmoid in half precision, which is off by 0.004 about zero.
    assert (tanh_by_sigmoid(half) - half.tanh()).abs().max() <= 2**-8
    assert (tanh_by_sigmoid(half / 1000) - (half / 1000).tanh()).abs().max() <= 2**-15


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (300, 5), (2, 4, 5), (5,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_computes_the_same_in_inference_mode(shape, dtype):
    torch.manual_seed(0)
    mlp = MLP([5, 70, 33], "tanh").to(dtype)
    x = torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        expected = mlp(x)
    with torch.inference_mode():
        found = mlp(x)
    assert (found.shape, found.dtype) == (expected.shape, dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    with torch.no_grad():  # and with the very same numbers elsewhere
        assert torch.equal(mlp(x), expected)
