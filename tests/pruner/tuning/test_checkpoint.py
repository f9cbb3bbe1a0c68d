"""What a checkpoint holds: earlier versions wrote the same names, so their runs can go on."""

from __future__ import annotations

import torch

from pruner.data.image_folder import open_images
from pruner.tuning.checkpoint import CHECKPOINT, Checkpoint
from pruner.tuning.recipe import Recipe
from pruner.tuning.trainer import finetune

from ..small import Small, image_folder


def test_a_checkpoint_keeps_its_format(tmp_path):
    torch.manual_seed(0)
    student, data = Small().eval(), open_images(image_folder(tmp_path / "images"), 8)
    state, count = student.state_dict(), len(list(student.parameters()))
    finetune(student, None, data, 1, recipe=Recipe(batch=8, ema=0.9), out=tmp_path)
    saved = Checkpoint.load(tmp_path / CHECKPOINT)
    assert saved.step == 4 and len(saved.notes["results"]) == 1
    assert set(saved.tensors) == {
        *(f"module/{name}" for name in state),
        *(f"average/{name}" for name in state),
        *(f"optimizer/{k}/momentum_buffer" for k in range(count)),
        "sums",
    }
    assert set(saved.notes) == {"optimizer", "scaler", "results", "spent_s", "epoch_began_s"}
    # The result is the average; the checkpoint keeps the weights in training beside it.
    for name, value in student.state_dict().items():
        assert torch.equal(saved.select("average")[name], value)
