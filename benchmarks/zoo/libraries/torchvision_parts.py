"""Torchvision's networks for video and optical flow, and the parts of its detectors.

A whole detector chooses its boxes by the data, which no graph holds; its backbone and its heads
have one each.
"""

from functools import partial

from . import Example, Networks

VIDEO = {
    "r3d_18": (8, 64), "mc3_18": (8, 64), "r2plus1d_18": (8, 64), "s3d": (16, 224),
    "mvit_v1_b": (16, 224), "mvit_v2_s": (16, 224), "swin3d_t": (8, 64),
}  # fmt: skip
"""Frames, and the side of a frame."""
FLOW = ("raft_small", "raft_large")
PARTS = {
    "ssd300_vgg16": ("backbone", "head"),
    "ssdlite320_mobilenet_v3_large": ("backbone", "head"),
    "retinanet_resnet50_fpn": ("backbone", "head"),
    "fcos_resnet50_fpn": ("backbone", "head"),
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("backbone", "rpn.head", "roi_heads.box_head"),
    "fasterrcnn_resnet50_fpn_v2": ("roi_heads.box_head",),
    "maskrcnn_resnet50_fpn": ("backbone", "roi_heads.mask_head"),
    "keypointrcnn_resnet50_fpn": ("roi_heads.keypoint_head",),
}


def list_networks() -> Networks:
    """List them; a part's name is ``detector/part``."""
    parts = [(name, part) for name, parts in PARTS.items() for part in parts]
    return {
        **{name: partial(build_video, name) for name in VIDEO},
        **{name: partial(build_flow, name) for name in FLOW},
        **{f"{name}/{part}": partial(build_part, name, part) for name, part in parts},
    }


def build_video(name: str) -> Example:
    """Build a network that reads one video."""
    import torch
    from torchvision import models

    frames, side = VIDEO[name]
    return models.get_model(name, weights=None), (torch.randn(2, 3, frames, side, side),), {}


def build_flow(name: str) -> Example:
    """Build a network that follows pixels from one image to another, in two steps."""
    import torch
    from torchvision import models

    images = torch.randn(2, 2, 3, 128, 128)
    return models.get_model(name, weights=None), tuple(images), {"num_flow_updates": 2}


def build_part(name: str, part: str) -> Example:
    """Build a detector's part, called with what it is called with in the detector."""
    import torch
    from torchvision import models

    size = {} if "ssd" in name else {"min_size": 160, "max_size": 160}
    model = models.get_model(name, weights=None, weights_backbone=None, **size).eval()
    module = model.get_submodule(part)
    if part.startswith("roi_heads"):  # boxes are cut out of the map, and resized
        side = 7 if part.endswith("box_head") else 14
        return module, (torch.randn(2, 256, side, side),), {}
    calls: list[Example] = []
    handle = module.register_forward_pre_hook(
        lambda part, args, kwargs: calls.append((part, args, kwargs)), with_kwargs=True
    )
    with torch.no_grad():
        model([torch.randn(3, 160, 160)] * 2)
    handle.remove()
    return calls[0]
