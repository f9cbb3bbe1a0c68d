"""Finds cut-outs (pictures with alpha) and photographs in folders, and splits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from PIL import Image

T = TypeVar("T")

CLASSES: Mapping[str, Sequence[str]] = {
    "bird": ("animals/birds",),
    "mammal": ("animals/mammals", "animals/marsupials"),
    "fruit": ("food/fruit", "food/vegetables", "food/nuts"),
    "flower": ("plants/flowers",),
    "vehicle": ("vehicles", "military/vehicles"),
    "sign": ("town/roadsigns",),
}
"""Class -> its folders in Debian's tuxpaint-stamps-default."""

DRAWN = ("cartoon", "toys", "plastic")
"""Folders of that package that hold no photographs."""

PHOTO_TYPES = (".jpg", ".jpeg", ".png")

LEFT_OUT = (
    "n01*", "n02[0-5]*", "n026[0-5]*",  # animals
    "n07*", "n11*", "n12*", "n13*",  # food, plants, fungi
    *(f"*_{name}.*" for name in (
        "aircraft_carrier", "airliner", "airship", "ambulance", "amphibian", "balloon",
        "beach_wagon", "bicycle-built-for-two", "bobsled", "bullet_train", "cab", "canoe",
        "car_mirror", "car_wheel", "catamaran", "container_ship", "convertible", "dogsled",
        "electric_locomotive", "fireboat", "fire_engine", "forklift", "freight_car",
        "garbage_truck", "go-kart", "golfcart", "gondola", "grille", "half_track", "harvester",
        "horse_cart", "jeep", "jinrikisha", "lawn_mower", "lifeboat", "limousine", "liner",
        "minibus", "minivan", "missile", "mobile_home", "model_t", "moped", "motor_scooter",
        "mountain_bike", "moving_van", "oxcart", "paddlewheel", "passenger_car", "pickup",
        "pirate", "plow", "police_van", "projectile", "racer", "recreational_vehicle",
        "school_bus", "schooner", "snowmobile", "snowplow", "space_shuttle", "speedboat",
        "sports_car", "steam_locomotive", "streetcar", "submarine", "tank", "thresher",
        "tow_truck", "tractor", "trailer_truck", "tricycle", "trimaran", "trolleybus",
        "unicycle", "warplane", "wing", "wreck", "yawl", "street_sign", "traffic_light",
        "parking_meter", "fig", "jack-o'-lantern", "greenhouse", "grocery_store", "vase",
    )),
)  # fmt: skip
"""Names of ImageNet's photographs on which something of a class would stand without a label."""


@dataclass(frozen=True)
class Cutout:
    """A picture with alpha, and the number of its class, from 1 on: 0 is the background."""

    path: Path
    label: int

    def open(self) -> Image.Image:
        """Read it as RGBA, without its transparent margin."""
        with Image.open(self.path) as image:
            picture = image.convert("RGBA")
        solid = picture.getchannel("A").point(lambda alpha: 255 if alpha >= 128 else 0)
        return picture.crop(solid.getbbox())


def find_cutouts(
    root: Path, classes: Mapping[str, Sequence[str]] = CLASSES, without: Sequence[str] = DRAWN
) -> list[Cutout]:
    """List the pictures of every class's folders under root, in the order of their paths.

    Raises:
        FileNotFoundError: A class has fewer than two pictures there: one to train on, one to test.
    """
    found = []
    for label, (name, folders) in enumerate(classes.items(), start=1):
        paths = {p for folder in folders for p in (root / folder).rglob("*.png")}
        wanted = sorted(p for p in paths if not set(p.relative_to(root).parts) & set(without))
        if len(wanted) < 2:
            raise FileNotFoundError(
                f"class {name}: {len(wanted)} pictures in {', '.join(folders)} of {root}, at least "
                "2 are needed; `python -m examples.scenes --help` says how to get them"
            )
        found += [Cutout(path, label) for path in wanted]
    return found


def find_photos(folder: Path, without: Sequence[str] = LEFT_OUT) -> list[Path]:
    """List all photographs in a folder and below it, in the order of their names.

    Raises:
        FileNotFoundError: There are fewer than two.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_TYPES)
    found = [p for p in paths if not any(fnmatch(p.name, pattern) for pattern in without)]
    if len(found) < 2:
        raise FileNotFoundError(f"{folder} has {len(found)} photographs, at least 2 are needed")
    return sorted(found, key=lambda p: (p.name, p))


def split_fifth(items: Sequence[T]) -> tuple[list[T], list[T]]:
    """Split into what to train on, and every fifth (the second of every five) to test."""
    held_out = set(range(1, len(items), 5))
    train = [item for k, item in enumerate(items) if k not in held_out]
    return train, [items[k] for k in sorted(held_out)]
