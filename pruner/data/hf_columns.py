"""HfColumns: which columns of a Hugging Face data set are image, mask, text, tokens and label."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import PrunerError
from ..utils import suggest_names, wrong_value


@dataclass(frozen=True)
class HfColumns:
    """The columns that are read, by what they are for; None or () where there is none.

    Attributes:
        image: Images.
        mask: Images, or arrays of two axes, with the classes of pixels.
        text: Texts.
        tokens: Lists of whole numbers, keyword arguments of the network by their names.
        label: A class or a number for every row.
    """

    image: str | None = None
    mask: str | None = None
    text: str | None = None
    tokens: tuple[str, ...] = ()
    label: str | None = None

    def list_names(self) -> list[str]:
        """Return the columns that are read."""
        one = (self.image, self.mask, self.text, self.label)
        return [*(name for name in one if name is not None), *self.tokens]


def choose_columns(features: Mapping[str, Any], said: Mapping[str, Any], where: str) -> HfColumns:
    """Choose columns by the types of their features, as far as the user has not said them.

    Where several columns have the type of one role, that with the role's name is it; else the user
    is asked. A class is a label; another number is only where its column has that name.

    Args:
        features: Column name to feature, as ``datasets.Dataset.features``.
        said: Role (``image``, ``mask``, ``text``, ``tokens``, ``label``) to column, or to a list of
            them for tokens.
        where: The data set, for messages.

    Raises:
        PrunerError: No column is an input, a role has several, or what was said is not there.
    """
    _check(features, said, where)
    found = {name: _find_kind(feature) for name, feature in features.items()}
    taken = _list_said(said)
    free = {
        kind: [name for name, one in found.items() if one == kind and name not in taken]
        for kind in ("image", "array", "text", "tokens", "class", "number")
    }
    chosen = dict(said)
    if free["image"] and "image" not in said:
        two = len(free["image"]) == 2 and "mask" not in said
        if two:
            chosen |= _tell_masks(free["image"], where)
        else:
            chosen["image"] = _choose_one("image", free["image"], where)
    if free["array"] and "image" in chosen and "mask" not in chosen:
        chosen["mask"] = _choose_one("mask", free["array"], where)
    if free["tokens"] and not {"image", "text", "tokens"} & {*chosen}:
        chosen["tokens"] = free["tokens"]
    # A number may be an index as well: it is a label where its name says so.
    labels = free["class"] or [one for one in free["number"] if one.casefold() == "label"]
    if labels and not {"mask", "label"} & {*chosen}:
        chosen["label"] = _choose_one("label", labels, where)
    # A title beside an image and its label, or a text beside its tokens, is no input.
    enough = "tokens" in chosen or ("image" in chosen and bool({"mask", "label"} & {*chosen}))
    if free["text"] and "text" not in chosen and not enough:
        chosen["text"] = _choose_one("text", free["text"], where)
    tokens = chosen.pop("tokens", ())
    columns = HfColumns(**chosen, tokens=(tokens,) if isinstance(tokens, str) else tuple(tokens))
    if columns.image is None and columns.text is None and not columns.tokens:
        listed = ", ".join(f"{name}: {kind}" for name, kind in found.items())
        raise PrunerError(f"{where}: no column of images, texts or tokens; found {listed}")
    return columns


def _find_kind(feature: Any) -> str:
    """Return what a feature's values are."""
    import datasets

    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(feature, datasets.ClassLabel):
        return "class"
    if isinstance(feature, datasets.Array2D):
        return "array"
    kind = str(getattr(feature, "dtype", ""))
    if isinstance(feature, datasets.Value):
        if "string" in kind:
            return "text"
        return "number" if kind.startswith(("int", "uint", "float", "double", "bool")) else kind
    inner = getattr(feature, "feature", None)  # of a list
    whole = str(getattr(inner, "dtype", "")).startswith(("int", "uint", "bool"))
    if isinstance(inner, datasets.Value) and whole:
        return "tokens"
    return type(feature).__name__


def _tell_masks(images: list[str], where: str) -> dict[str, str]:
    """Return which of two columns of images is the mask, where one has the name of its role."""
    named = [name for name in images if name.casefold() in ("image", "mask")]
    if not named:
        raise _ask("image", images, where, ", and mask")
    other = next(name for name in images if name != named[0])
    pair = (named[0], other) if named[0].casefold() == "image" else (other, named[0])
    return {"image": pair[0], "mask": pair[1]}


def _choose_one(role: str, names: list[str], where: str) -> str:
    own = [name for name in names if name.casefold() == role]
    if len(names) > 1 and len(own) != 1:
        raise _ask(role, names, where)
    return own[0] if own else names[0]


def _ask(role: str, names: list[str], where: str, more: str = "") -> PrunerError:
    return PrunerError(
        f"{where}: {', '.join(names)} may each be the {role}; say columns: {{{role}: NAME}}{more}"
    )


def _check(features: Mapping[str, Any], said: Mapping[str, Any], where: str) -> None:
    """PrunerError for a role that there is not, and for a column that is not there."""
    roles = [one.name for one in fields(HfColumns)]
    for role in said:
        if role not in roles:
            raise wrong_value(f"{where}: columns", f"one of {', '.join(roles)}", role)
    for name in _list_said(said):
        if name not in features:
            hint = suggest_names(name, features) or f"found {', '.join(features)}"
            raise PrunerError(f"{where}: no column {name!r}; {hint}")


def _list_said(said: Mapping[str, Any]) -> list[str]:
    return [
        name
        for value in said.values()
        for name in ([value] if isinstance(value, str) else list(value))
    ]
