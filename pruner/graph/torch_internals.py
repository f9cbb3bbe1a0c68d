"""Private interfaces of torch that the package relies on, each behind one name."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import SymInt, Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode as _FakeTensorMode
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode as _TorchDispatchMode

BatchNorm = nn.modules.batchnorm._BatchNorm
"""Every batch normalization."""
RunningNorm = nn.modules.batchnorm._NormBase
"""Every batch and instance normalization."""
Convolution = nn.modules.conv._ConvNd
"""Every convolution, transposed ones too."""
Dropout = nn.modules.dropout._DropoutNd
"""Every dropout."""
FakeTensorMode = _FakeTensorMode
"""Under it, operators compute shapes and nothing else."""
HigherOrderOperator = torch._ops.HigherOrderOperator
"""An operator that runs a graph."""


_PLACES = frozenset({"filename", "path", "file"})
"""Arguments of operators that name a file: ``from_file`` makes one."""


class TableReads(_TorchDispatchMode):
    """Under it, every look-up of rows in a table of numbers is noted.

    Attributes:
        found: (rows of the table, numbers that were looked up) of every look-up, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note a look-up, and run the operator."""
        name = getattr(operator_schema(func), "name", "")
        indices = None
        if name in ("aten::embedding", "aten::embedding_bag", "aten::_embedding_bag"):
            indices = args[1]
        elif name == "aten::index_select" and args[1] == 0:
            indices = args[2]
        elif name == "aten::index" and args[1]:
            indices = args[1][0]
        if isinstance(indices, Tensor) and indices.dtype in (torch.int64, torch.int32):
            self.found.append((len(args[0]), indices.detach().clone()))
        return func(*args, **(kwargs or {}))


def operator_schema(target: Any) -> Any:
    """Return the schema of an ATen operator, None for any other call."""
    return getattr(target, "_schema", None)


def is_operator(target: Any) -> bool:
    """Whether a call's target is one overload of a dispatcher's operator, such as an ATen one."""
    return isinstance(target, torch._ops.OpOverload)


def computes_alone(operator: Any) -> bool:
    """Whether an operator is the dispatcher's, and looks at its arguments alone: at no file."""
    known = torch._C._dispatch_has_kernel(operator.name())
    arguments = operator._schema.arguments
    return known and not any(a.name in _PLACES and "str" in str(a.type) for a in arguments)


def composite_kernel(target: Any) -> Callable[..., Any] | None:
    """Return the program over other operators that a composite one is; None for any other."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    if key in target.py_kernels:
        return target.py_kernels[key]  # type: ignore[no-any-return]
    if torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), key):
        return partial(target._op_dk, key)
    return None


def memory_key(value: Any) -> int | None:
    """Return what a (fake) tensor's views and it have in common; None of what is no tensor."""
    return value.untyped_storage()._cdata if isinstance(value, Tensor) else None


@contextmanager
def replace_decomposition(operator: Any, function: Callable[..., Any]) -> Iterator[None]:
    """Let another function say meanwhile what a composite operator gives on fake tensors."""
    keys = (torch._C.DispatchKey.CompositeImplicitAutograd, torch._C.DispatchKey.Autograd)
    held = {key: operator.py_kernels[key] for key in keys if key in operator.py_kernels}
    table = torch._decomp.decomposition_table
    listed = table.get(operator)
    try:
        operator.py_kernels.update(dict.fromkeys(held, function))
        if listed is not None:
            table[operator] = function
        operator._dispatch_cache.clear()
        yield
    finally:
        operator.py_kernels.update(held)
        if listed is not None:
            table[operator] = listed
        operator._dispatch_cache.clear()


def get_hint(size: int | SymInt) -> int:
    """Return what a size is in the example call; a free one stays free."""
    return size if isinstance(size, int) else int(size.node.hint)  # type: ignore[arg-type]


@contextmanager
def given_causality() -> Iterator[None]:
    """Let ``nn.Transformer`` believe meanwhile what it is told of its masks, and look at no values.

    Told nothing, it compares a mask with the causal one, and asks for the answer in Python. A mask
    that is not taken for causal is added to the scores like any other: the numbers are the same.
    """
    module = nn.modules.transformer
    held = module._detect_is_causal_mask
    module._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        yield
    finally:
        module._detect_is_causal_mask = held


def forget_guards(exported: torch.export.ExportedProgram) -> None:
    """Forget the conditions on inputs, which torch spells wrongly where forward takes ``**kwargs``.

    Tracing again fails then on a name that is not defined.
    """
    if hasattr(exported, "_guards_code"):
        exported._guards_code = []


def io_nesting(graph: fx.Graph) -> tuple[list[str], pytree.TreeSpec, pytree.TreeSpec] | None:
    """Return the names of forward's arguments, their and the results' specs; None: all is flat."""
    info = getattr(graph._codegen, "pytree_info", None)
    return None if info is None else (list(info.orig_args), info.in_spec, info.out_spec)


def set_io_nesting(
    graph: fx.Graph,
    names: Sequence[str],
    in_spec: pytree.TreeSpec,
    out_spec: pytree.TreeSpec | None,
) -> None:
    """Let a graph's module take and return nested values, its arguments under these names."""
    graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(list(names), in_spec, out_spec)))


def spec_children(spec: pytree.TreeSpec) -> list[pytree.TreeSpec]:
    """Return the specs one level down (torch renamed the accessor)."""
    method = getattr(spec, "children", None)
    return list(method() if callable(method) else spec.children_specs)


def inside_compiled(model: Any) -> nn.Module | None:
    """Return the module that ``torch.compile`` made this one of; None: it did not make it."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # it is there if it made anything
    kind = getattr(compiler, "OptimizedModule", None)
    return model._orig_mod if kind is not None and isinstance(model, kind) else None


def is_specialization(error: BaseException) -> bool:
    """Whether ``torch.export`` failed since the code made a constant of a size left free."""
    return getattr(getattr(error, "error_type", None), "name", "") == "CONSTRAINT_VIOLATION"


def is_data_dependent(error: BaseException | None) -> bool:
    """Whether ``torch.export`` failed since Python code asked for values of a tensor."""
    return any("DataDependent" in kind.__name__ for kind in type(error).__mro__)


def child_modules(module: nn.Module) -> dict[str, Any]:
    """Return a module's own registry of children, to be changed in place."""
    return module._modules


def forget_tensor(module: nn.Module, name: str) -> None:
    """Take a parameter or buffer from a module's registries, if it is there."""
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)


def share_contents(module: nn.Module, source: nn.Module) -> None:
    """Let a module hold all that another holds: children, parameters and buffers."""
    module._modules.update(source._modules)
    module._parameters.update(source._parameters)
    module._buffers.update(source._buffers)


def order_registries(module: nn.Module, key: Callable[[str], int]) -> None:
    """Sort a module's own parameters, buffers and children by a key of their names."""
    for registry in (module._parameters, module._buffers, module._modules):
        ordered = {name: registry[name] for name in sorted(registry, key=key)}
        registry.clear()
        registry.update(ordered)  # type: ignore[arg-type]
