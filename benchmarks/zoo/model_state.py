"""Whether a model is as it was: what it holds, beside the numbers of its tensors."""

from typing import Any

from .subject import Failure


def describe_model(model: Any) -> dict[str, Any]:
    """Describe a model: state, modes, attributes, hooks; tensors are copied."""
    import torch

    result: dict[str, Any] = {
        f"state {name}": value.detach().clone() for name, value in model.state_dict().items()
    }
    for name, module in model.named_modules():
        result[f"type of {name}"] = type(module)
        for key, value in vars(module).items():
            where = f"{name}.{key}"
            if isinstance(value, torch.Tensor):
                result[where] = (type(value), value.device, value.detach().clone())
            elif key in ("_parameters", "_buffers", "_modules"):
                result[where] = {k: (id(v), type(v)) for k, v in value.items()}
            elif isinstance(value, dict) and "hooks" in key:
                result[where] = [id(hook) for hook in value.values()]
            elif isinstance(value, bool | int | float | str | type(None)):
                result[where] = value
            else:
                result[where] = type(value)
    return result


def require_unchanged(before: dict[str, Any], model: Any) -> None:
    """Raise Failure where a model is not as it was described.

    Raises:
        Failure: The message names the first that differs.
    """
    after = describe_model(model)
    names = [*before, *(name for name in after if name not in before)]
    changed = [n for n in names if n not in before or n not in after]
    changed += [n for n in names if n not in changed and not _is_same(before[n], after[n])]
    if changed:
        raise Failure(f"{len(changed)} changed: {', '.join(changed[:3])}")


def _is_same(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and bool(torch.equal(one, other) or torch.allclose(one, other, equal_nan=True))
    return bool(one == other)
