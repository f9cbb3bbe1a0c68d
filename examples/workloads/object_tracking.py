"""Object-centric multiple object tracking: slots over the frames of a clip, merged into a memory.

A convolutional encoder, slot attention whose slots are carried from frame to frame by one shared
GRU cell, an attention that tells which memory each slot belongs to (index-merge), memories that a
transformer rolls on to the next frame, and a spatial broadcast decoder.
"""

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """An image to one feature vector a position, with a learned embedding of the position."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, stride=2, padding=2),
            nn.ReLU(),
        )
        self.position = nn.Parameter(torch.randn(1, side * side, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, image: Tensor) -> Tensor:
        """[b, 3, h, w] to [b, positions, width]."""
        x = self.net(image).flatten(2).transpose(1, 2) + self.position
        return self.mlp(self.norm(x))


class SlotAttention(nn.Module):
    """Slots compete for positions: softmax over slots, weighted mean over positions, GRU, MLP."""

    def __init__(self, width: int, slot_width: int, iterations: int = 2) -> None:
        super().__init__()
        self.iterations, self.scale = iterations, slot_width**-0.5
        self.norm_input = nn.LayerNorm(width)
        self.norm_slots = nn.LayerNorm(slot_width)
        self.norm_mlp = nn.LayerNorm(slot_width)
        self.to_q = nn.Linear(slot_width, slot_width, bias=False)
        self.to_k = nn.Linear(width, slot_width, bias=False)
        self.to_v = nn.Linear(width, slot_width, bias=False)
        self.gru = nn.GRUCell(slot_width, slot_width)
        self.mlp = nn.Sequential(
            nn.Linear(slot_width, 2 * slot_width), nn.ReLU(), nn.Linear(2 * slot_width, slot_width)
        )

    def forward(self, features: Tensor, slots: Tensor) -> Tensor:
        """[b, positions, width] and [b, slots, slot_width] to [b, slots, slot_width]."""
        features = self.norm_input(features)
        k, v = self.to_k(features), self.to_v(features)
        batch, count, width = slots.shape
        for _ in range(self.iterations):
            q = self.to_q(self.norm_slots(slots))
            share = torch.einsum("bsd,bnd->bsn", q, k).mul(self.scale).softmax(dim=1) + 1e-8
            share = share / share.sum(dim=-1, keepdim=True)
            update = torch.einsum("bsn,bnd->bsd", share, v)
            slots = self.gru(update.reshape(-1, width), slots.reshape(-1, width))
            slots = slots.reshape(batch, count, width)
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots


class IndexMerge(nn.Module):
    """Assigns slots to memories by attention, and writes what each memory was assigned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)

    def forward(self, memory: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memories [b, memories, d] and the assignment [b, memories, slots]."""
        q, k = self.query(memory), self.key(slots)
        index = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=1)
        merged = (index / index.sum(dim=2, keepdim=True).clamp(min=1e-6)) @ slots
        gate = torch.sigmoid(self.gate(torch.cat([memory, merged], dim=-1)))
        return gate * merged + (1 - gate) * memory, index


class Decoder(nn.Module):
    """Broadcasts every slot over a grid and decodes it to an image and a mask."""

    def __init__(self, slot_width: int, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.position = nn.Parameter(torch.randn(1, slot_width, side, side) * 0.02)
        self.net = nn.Sequential(
            nn.ConvTranspose2d(slot_width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 4, 3, padding=1),
        )

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """[b, s, d] to the image [b, 3, h, w] and the masks [b, s, 1, h, w]."""
        batch, count, width = slots.shape
        x = slots.reshape(batch * count, width, 1, 1).expand(-1, -1, self.side, self.side)
        x = self.net(x + self.position).unflatten(0, (batch, count))
        colors, masks = x.split([3, 1], dim=2)
        masks = masks.softmax(dim=1)
        return (colors * masks).sum(dim=1), masks


class ObjectTracker(nn.Module):
    """Masks of the memories, frame by frame, and which slot each memory took."""

    def __init__(self, width: int = 32, slot_width: int = 48, slots: int = 5, memories: int = 6,
                 side: int = 8) -> None:  # fmt: skip
        super().__init__()
        self.encoder = Encoder(width, side)
        self.slots = nn.Parameter(torch.randn(1, slots, slot_width))
        self.memory = nn.Parameter(torch.randn(1, memories, slot_width))
        self.slot_attention = SlotAttention(width, slot_width)
        self.merge = IndexMerge(slot_width)
        self.rollout = nn.TransformerEncoderLayer(
            slot_width, 4, 2 * slot_width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.decoder = Decoder(slot_width, width, side)

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[b, frames, 3, h, w] to images, masks and assignments, each with its frames at axis 1."""
        slots = self.slots.expand(clip.shape[0], -1, -1)
        memory = self.memory.expand(clip.shape[0], -1, -1)
        images, masks, indices = [], [], []
        for frame in clip.unbind(1):
            slots = self.slot_attention(self.encoder(frame), slots)
            memory, index = self.merge(memory, slots)
            image, mask = self.decoder(memory)
            images.append(image)
            masks.append(mask)
            indices.append(index)
            memory = self.rollout(memory)
        return torch.stack(images, 1), torch.stack(masks, 1), torch.stack(indices, 1)


def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Make the network with random weights, and a batch of clips."""
    torch.manual_seed(0)
    return ObjectTracker(), (torch.randn(2, 3, 3, 32, 32),)
