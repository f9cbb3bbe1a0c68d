"""Renders scenes: cut-outs with alpha on photographs, whose boxes, masks and depth are then known.

``python -m examples.scenes --help`` in the repository's root says where the pictures come from.
"""

from .compose import Scene, compose_scene
from .cutouts import CLASSES, Cutout, find_cutouts, find_photos, split_fifth
from .files import write_scenes

__all__ = [
    "CLASSES",
    "Cutout",
    "Scene",
    "compose_scene",
    "find_cutouts",
    "find_photos",
    "split_fifth",
    "write_scenes",
]
