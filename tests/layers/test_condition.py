import torch

from gentrain.layers.condition import ConditionVector


def test_labels_attributes_and_captions_as_numbers():
    one_hot = ConditionVector(3)(torch.tensor([2, 0]), torch.float64)
    assert one_hot.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot.dtype == torch.float64
    given = torch.tensor([[True, False], [True, True]])
    assert ConditionVector(2)(given, torch.float32).tolist() == [[1, 0], [1, 1]]
    words = ConditionVector(3, tokens=True)(torch.tensor([[1, 3, 3, 0], [0, 0, 0, 0]]), torch.float32)
    assert words.tolist() == [[1, 0, 2], [0, 0, 0]]
