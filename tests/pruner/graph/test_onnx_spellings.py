"""Operators that ONNX Runtime or the exporter does not know are written with others."""

import pytest
import torch
from torch import Tensor, nn

from pruner import trace
from pruner.graph import to_onnx

onnxruntime = pytest.importorskip("onnxruntime")


class Chosen(nn.Module):
    """A linear layer whose values are let through where truth values, selected and filled, say."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        high, low = y > 0.2, y < -0.2
        mask = torch.where(x > 0, high, low)
        mask = mask.masked_fill(x > 1, True).masked_fill(x < -1, False)
        mask = mask.masked_fill(y > 2, torch.tensor(True))
        return y * mask + torch.where(mask, y, -y).masked_fill(low, 0.5)


class Running(nn.Module):
    """The largest and smallest values so far, and where they stood."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        largest, places = torch.cummax(y, 1)
        counts = (y > 0).long()
        return largest + places + torch.cummin(y.round(), 0)[0] + torch.cummax(counts, -1).indices


class Masked(nn.Module):
    """Whole numbers subtracted from others that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        mask = (x > 0).int()
        return self.linear(x) * (1.0 - mask) + torch.rsub(mask.long(), 0.5, alpha=2) + (3 - mask)


@pytest.mark.parametrize("kind", [Chosen, Running, Masked])
def test_runs_in_onnx_runtime(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    x = torch.randn(4, 6)
    module = trace(model, (x,)).module
    content = to_onnx(module, (x,)).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), model(x))
