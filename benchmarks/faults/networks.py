"""Changes to the header of a model.safetensors that no honest network has; its seal is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Header = dict[str, Any]
Change = Callable[[Header, str], object]
"""Changes a header in place; the text is a file that is there where something was executed."""
EVIL = "__import__('os').system('touch {}')"


def _find(header: Header, op: str) -> Header:
    found: list[Header] = [node for node in header["nodes"] if node["op"] == op]
    return found[0]


def _call(header: Header) -> Header:
    return _find(header, "call_function")


def _convolution(header: Header) -> Header:
    found: list[Header] = [one for one in header["layers"].values() if one["kind"] == "Conv2d"]
    return found[0]["settings"]  # type: ignore[no-any-return]


def _rename_layer(header: Header, name: str) -> None:
    first = next(iter(header["layers"]))
    header["layers"][name] = header["layers"].pop(first)
    for node in header["nodes"]:
        if node["target"] == first:
            node["target"] = name


def _nest(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return {"tuple": found}


def _nest_inputs(keyword: str) -> Header:
    positional: list[Any] = ["tuple", "", None, []]
    return {
        "names": ["x"], "out": None,
        "in": ["tuple", "", None, [positional, ["dict", "", [keyword], [None]]]],
    }  # fmt: skip


def _nest_outputs(kind: list[Any]) -> Header:
    inputs = ["tuple", "", None, [["tuple", "", None, [None]], ["dict", "", [], []]]]
    return {"names": ["x"], "in": inputs, "out": kind}


def _insert(header: Header, op: str, target: Any, *args: Any, **kwargs: Any) -> None:
    """Put a node right behind the inputs."""
    node = {"name": "inserted", "op": op, "target": target, "args": {"tuple": list(args)},
            "kwargs": {"dict": kwargs}}  # fmt: skip
    place = max(i for i, n in enumerate(header["nodes"]) if n["op"] == "placeholder") + 1
    header["nodes"].insert(place, node)


def _layer(header: Header, kind: str, **settings: Any) -> None:
    header["layers"]["more"] = {"kind": kind, "settings": settings}


CHANGES: dict[str, Change] = {
    "calls os.system": lambda h, mark: _call(h).update(target="os.system"),
    "calls builtins.eval": lambda h, mark: _insert(
        h, "call_function", "builtins.eval", EVIL.format(mark)
    ),
    "calls operator.attrgetter": lambda h, mark: _insert(
        h, "call_function", "operator.attrgetter", "__class__"
    ),
    "calls the class of an operator": lambda h, mark: _call(h).update(target="aten.add.__class__"),
    "calls an attribute of the operators": lambda h, mark: _call(h).update(
        target="aten.__init__.__globals__"
    ),
    "calls what maps files": lambda h, mark: _insert(
        h, "call_function", "aten.from_file.default", mark, True, 4096
    ),
    "calls what saves": lambda h, mark: _insert(h, "call_function", "aten.save.default", 1, mark),
    "calls a method": lambda h, mark: _call(h).update(op="call_method", target="__reduce__"),
    "reads another attribute": lambda h, mark: _insert(
        h, "call_function", "operator.device", {"node": h["nodes"][0]["name"]}, "__class__"
    ),
    "reads the globals": lambda h, mark: _insert(h, "get_attr", "forward.__globals__"),
    "calls a module that is none": lambda h, mark: _insert(h, "call_module", "forward"),
    "holds code in a keyword": lambda h, mark: _call(h).update(
        kwargs={"dict": {f"a={EVIL.format(mark)}, b": 1}}
    ),
    "holds code in a keyword that ends the function": lambda h, mark: _call(h).update(
        kwargs={"dict": {f"a=1)\n\n{EVIL.format(mark)}\ndef g(x):\n    (x": 1}}
    ),
    "holds code in the name of an input": lambda h, mark: _find(h, "placeholder").update(
        target=f"x={EVIL.format(mark)}"
    ),
    "calls an input as Python does a word": lambda h, mark: _find(h, "placeholder").update(
        target="lambda"
    ),
    "holds code in the name of a keyword argument": lambda h, mark: h.update(
        nesting=_nest_inputs(f"x':{EVIL.format(mark)},'y")
    ),
    "holds code in the name of a layer": lambda h, mark: _rename_layer(
        h, f"a');{EVIL.format(mark)};('"
    ),
    "holds code in the name of a node": lambda h, mark: _call(h).update(
        name=f"a = {EVIL.format(mark)}\nb"
    ),
    "holds code in its own name": lambda h, mark: h.update(name=f"A:\n  {EVIL.format(mark)}\nB"),
    "nests results in a class of os": lambda h, mark: h.update(
        nesting=_nest_outputs(["class", "os.system", ["a"], [None]])
    ),
    "nests results in a named tuple of code": lambda h, mark: h.update(
        nesting=_nest_outputs(["namedtuple", f"A(1): {EVIL.format(mark)}", ["a"], [None]])
    ),
    "has a layer of another kind": lambda h, mark: _layer(h, "Module"),
    "has a layer of another setting": lambda h, mark: _convolution(h).update(
        device="cpu", in_channels=1_000_000, out_channels=1_000_000
    ),
    "has a layer of sizes beyond numbers": lambda h, mark: _convolution(h).update(
        in_channels=1 << 62, out_channels=1 << 62
    ),
    "has a layer of a size that is a text": lambda h, mark: _convolution(h).update(stride="x"),
    "has a stack of 10^9 layers": lambda h, mark: _layer(
        h, "LSTM", input_size=1, hidden_size=1, num_layers=10**9
    ),
    "has a layer without numbers": lambda h, mark: _layer(
        h, "Linear", in_features=4, out_features=4, bias=True
    ),
    "has a type that is a function": lambda h, mark: _call(h).update(
        kwargs={"dict": {"dtype": {"dtype": "load"}}}
    ),
    "has a device of nowhere": lambda h, mark: _call(h).update(
        kwargs={"dict": {"device": {"device": "nowhere:7"}}}
    ),
    "is nested deeply": lambda h, mark: _call(h).update(args=_nest(900)),
    "ties a tensor to nothing": lambda h, mark: h["tied"].update(a="b"),
    "shares a layer that is not there": lambda h, mark: h.update(shared={"a": "b"}),
    "names a tensor that is not there": lambda h, mark: _insert(h, "get_attr", "gone"),
    "uses what comes later": lambda h, mark: _insert(
        h, "call_function", "aten.relu.default", {"node": h["nodes"][-2]["name"]}
    ),
    "returns twice": lambda h, mark: h["nodes"].append(dict(h["nodes"][-1], name="again")),
    "has no layers": lambda h, mark: h.update(layers={}),
    "has no nodes": lambda h, mark: h.update(nodes=[]),
    "has nothing": lambda h, mark: h.clear(),
}
