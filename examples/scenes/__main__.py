"""Render scenes of cut-outs on photographs into OUT/train and OUT/val.

    apt-get download tuxpaint-stamps-default      # or apt-get install it, and leave --cutouts out
    dpkg -x tuxpaint-stamps-default_*.deb data/stamps
    python examples/prepare.py imagenet           # photographs; or any folder by --photos
    python -m examples.scenes data/scenes --cutouts data/stamps/usr/share/tuxpaint/stamps

Each of OUT/train and OUT/val has
    images/00000.jpg    the scenes
    masks/00000.png     the class of every pixel, as a palette's index; 0 is the photograph
    depth/00000.png     16 bit: how far away every pixel is, times 10,000; photographs: 50,000
    annotations.json    COCO: boxes around what is visible of every cut-out
OUT/classes.txt names the classes of masks, and OUT/sheet.png shows the first of OUT/val. Every
fifth cut-out of a class and every fifth photograph are in OUT/val only. The same pictures, size and
seed give the same scenes.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path

from .cutouts import CLASSES, LEFT_OUT, find_cutouts, find_photos, split_fifth
from .files import write_scenes
from .sheet import draw_sheet


def main() -> None:
    """Render what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.scenes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    stamps = Path("/usr/share/tuxpaint/stamps")
    parser.add_argument("--cutouts", type=Path, default=stamps, help="folder of folders of PNGs")
    parser.add_argument("--photos", type=Path, default=Path("data/imagenet-1000"))
    parser.add_argument(
        "--class", action="append", dest="classes", metavar="NAME=FOLDER[,FOLDER...]",
        help="folders under --cutouts of a class; may be given often; default: "
        + ", ".join(CLASSES),
    )  # fmt: skip
    parser.add_argument(
        "--without", nargs="*", default=LEFT_OUT, metavar="PATTERN",
        help="photographs of such names are left out; default: those of ImageNet's that show "
        "something of the classes",
    )  # fmt: skip
    parser.add_argument("--size", type=int, default=192, help="pixels a side (default 192)")
    parser.add_argument("--train", type=int, default=3000, help="scenes (default 3000)")
    parser.add_argument("--val", type=int, default=500, help="scenes (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    classes = {
        name: tuple(folders.split(","))
        for name, _, folders in (text.partition("=") for text in given.classes or ())
    } or CLASSES
    try:
        cutouts = find_cutouts(given.cutouts, classes)
        photos = split_fifth(find_photos(given.photos, given.without))
    except FileNotFoundError as error:
        parser.error(str(error))
    groups = [split_fifth(list(kin)) for _, kin in groupby(cutouts, lambda c: c.label)]
    for k, name in enumerate(("train", "val")):
        chosen = [cutout for group in groups for cutout in group[k]]
        count = getattr(given, name)
        print(f"{name}: {count} scenes of {len(chosen)} cut-outs on {len(photos[k])} photographs")
        first = write_scenes(
            given.out / name, chosen, photos[k], list(classes),
            count=count, size=given.size, seed=(given.seed, k),
        )  # fmt: skip
    names = "\n".join(["background", *classes]) + "\n"
    (given.out / "classes.txt").write_text(names, encoding="utf-8")
    draw_sheet(first, list(classes)).save(given.out / "sheet.png")


if __name__ == "__main__":
    main()
