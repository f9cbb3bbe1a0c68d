"""What a pruned network is to the transformers library: a configuration and a model class.

`register` makes them known, so that ``AutoModel.from_pretrained(FOLDER)`` and its kin load what
``msprune export RUN --format hf`` wrote: no remote code, no pickle, none of the model's own source.
The library is imported with this module, which `auto_registration` imports when it is needed.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils import cached_file

from ..errors import PrunerError
from ..graph import InputValues, io_nesting
from ..surgery import FILE, load, save

MODEL_TYPE = "msprune"
_HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder",
        "token")  # fmt: skip
_UNSAID = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""Arguments of the library's models that say nothing, as the values that they may have."""


class PrunedConfig(transformers.PretrainedConfig):
    """The configuration of a pruned network: of the model that it was cut from, where that has one.

    ``pruned_from`` is that model's own ``model_type``, None for one of another library.
    """

    model_type = MODEL_TYPE

    def __init__(self, pruned_from: str | None = None, **fields: Any) -> None:
        """Take the model's type and the fields of its configuration."""
        super().__init__(**fields)
        self.pruned_from = pruned_from

    @classmethod
    def of(cls, origin: Mapping[str, Any]) -> PrunedConfig:
        """Return the configuration of a network cut from a model with this ``config.json``."""
        left_out = ("model_type", "architectures", "transformers_version", "auto_map")
        fields = {key: value for key, value in origin.items() if key not in left_out}
        return cls(origin.get("model_type"), **fields, architectures=[PrunedNetwork.__name__])


class PrunedNetwork(transformers.PreTrainedModel):
    """A pruned network under the names and arguments of the library's models.

    It takes what the network was traced with, by position or by name, and returns what the network
    returns, such as the library's own output classes. It gives no loss: see docs/your_loop.md.
    """

    config_class = PrunedConfig
    base_model_prefix = "network"

    def __init__(self, config: PrunedConfig, network: nn.Module | None = None) -> None:
        """Take a network that `pruner.load` returned."""
        if network is None:
            raise PrunerError(
                "a pruned network is its files: PrunedNetwork.from_pretrained(FOLDER) makes one"
            )
        super().__init__(config)
        self.network = network
        graph: Any = network.graph
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        nesting = io_nesting(graph)
        self._names = [str(n.target) for n in inputs] if nesting is None else nesting[0]
        # What need not be given: it is not read, or may have but one value.
        unread: dict[str, Any] = dict.fromkeys(str(n.target) for n in inputs if not n.users)
        self._fixed = unread | {
            name: value
            for layer in network.modules()
            if isinstance(layer, InputValues)
            for name, value in zip(layer.names, layer.values)
        }

    @property
    def main_input_name(self) -> str:  # type: ignore[override]
        """The name of the first argument."""
        return self._names[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network.

        Raises:
            PrunerError: Arguments that it was not traced with, or too few of them.
        """
        given = {**dict(zip(self._names, args)), **kwargs}
        unknown = [
            name for name, value in given.items()
            if name not in self._names and value is not None and _UNSAID.get(name, ...) != value
        ]  # fmt: skip
        given = {**self._fixed, **given}
        missing = [
            name for name in self._names if given.get(name) is None and name not in self._fixed
        ]
        if unknown or missing or len(args) > len(self._names):
            raise PrunerError(
                f"the pruned network takes {', '.join(self._names)}, as it was traced; "
                + (f"{', '.join(unknown)} is none of these" if unknown
                   else f"{', '.join(missing)} is missing" if missing
                   else f"{len(args)} arguments are too many")
            )  # fmt: skip
        return self.network(**{name: given[name] for name in self._names})

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> Any:
        """Load a folder, or a repository of the hub, as the library's own models are loaded.

        Args:
            pretrained_model_name_or_path: The folder or the repository's name.
            args: None are taken.
            kwargs: ``config``; ``dtype`` or ``torch_dtype``; ``device_map``, one device for all;
                ``output_loading_info``; and where the hub's files are to be found.

        Raises:
            PrunerError: A file is damaged, or an argument that cannot be followed.
        """
        kwargs = {key: value for key, value in kwargs.items() if value not in (None, {})}
        where = {key: kwargs.pop(key) for key in _HUB if key in kwargs}
        config = kwargs.pop("config", None)
        dtype, device = _pop_dtype(kwargs), kwargs.pop("device_map", None)
        tells = kwargs.pop("output_loading_info", False)
        for name in ("trust_remote_code", "use_safetensors", "weights_only", "low_cpu_mem_usage"):
            kwargs.pop(name, None)  # all files are safetensors, and none holds code
        wrong = [name for name in kwargs if not name.startswith("_")] + [str(a) for a in args]
        if wrong or not isinstance(device, str | int | torch.device | None):
            raise PrunerError(
                f"a pruned network is loaded whole, as it is: {', '.join(wrong) or 'device_map'} "
                "cannot be followed (device_map may be one device)"
            )
        place = str(pretrained_model_name_or_path)
        file = Path(place) / where.get("subfolder", "") / FILE
        if not file.is_file():
            file = Path(str(cached_file(place, FILE, **where)))
        if not isinstance(config, PrunedConfig):
            config = PrunedConfig.from_pretrained(place, **where)
        model = cls(config, load(file)).eval()
        if device not in (None, "auto"):
            model.to(device)
        if dtype is not None:
            model.to(dtype)
        nothing: dict[str, Any] = {
            name: [] for name in ("missing_keys", "unexpected_keys", "mismatched_keys",
                                  "error_msgs")
        }  # fmt: skip
        return (model, nothing) if tells else model

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **kwargs: Any
    ) -> None:
        """Write the folder that `from_pretrained` reads; of kwargs ``state_dict`` is followed."""
        network = self.network
        state: Mapping[str, Tensor] | None = kwargs.get("state_dict")
        if state is not None:  # as a trainer that has gathered it gives it
            prefix = f"{self.base_model_prefix}."
            network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items()})
        save(network, None, save_directory)  # type: ignore[arg-type]
        self.config.save_pretrained(save_directory)


def register() -> None:
    """Let the library's Auto classes know what a folder of ``model_type`` msprune holds."""
    transformers.AutoConfig.register(MODEL_TYPE, PrunedConfig, exist_ok=True)
    from transformers.models.auto import modeling_auto

    for name, kind in vars(modeling_auto).items():
        if name.startswith("AutoModel") and inspect.isclass(kind) and hasattr(kind, "register"):
            kind.register(PrunedConfig, PrunedNetwork, exist_ok=True)


def _pop_dtype(kwargs: dict[str, Any]) -> torch.dtype | None:
    """Take the type of the weights out of arguments; None to leave them as they are."""
    given = [kwargs.pop(name) for name in ("dtype", "torch_dtype") if name in kwargs]
    named = next((one for one in given if one not in (None, "auto")), None)
    found = getattr(torch, named, None) if isinstance(named, str) else named
    if found is not None and not isinstance(found, torch.dtype) or (named and found is None):
        raise PrunerError(f"dtype: expected a type of torch such as float16, got {named!r}")
    return found
