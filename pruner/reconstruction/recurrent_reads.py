"""RecurrentCall: the products of matrices that are inside a recurrent layer.

Each layer and direction of an LSTM, GRU or RNN reads its input and its own state of the step
before, either by a weight and linearly; what gates make of the sums is not linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..graph import operator_arguments, operator_name
from .weight_views import ParameterView, WeightViews

RECURRENT = {"lstm": 2, "gru": 1, "rnn_tanh": 1, "rnn_relu": 1}
"""Operators, and the number of states that they carry from step to step."""


@dataclass(frozen=True)
class RecurrentCall:
    """A recurrent layer's call.

    Attributes:
        node: The operator or layer.
        name: Of the layer, or of its first parameter.
        kind: The operator's name.
        inputs: The nodes of its input and of its states [layers * directions, batch, hidden].
        params: Its parameters in the operator's order.
        each: Parameters of one layer and direction.
        layers: How many are stacked.
        bidirectional: Whether every layer runs backward, too.
        batch_first: Whether the input is [batch, time, in], not [time, batch, in].
    """

    node: fx.Node
    name: str
    kind: str
    inputs: tuple[fx.Node, ...]
    params: tuple[ParameterView, ...]
    each: int
    layers: int
    bidirectional: bool
    batch_first: bool

    @classmethod
    def find(
        cls, module: fx.GraphModule, node: fx.Node, layer: nn.Module | None, views: WeightViews
    ) -> RecurrentCall | None:
        """Return the call that a node is; None where its parameters are no plain ones."""
        if isinstance(layer, nn.RNNBase):
            return cls._find_layer(node, layer, views)
        given = operator_arguments(node)
        params = [views.find(one) for one in given.get("params", ())]
        if "input" not in given or not params or None in params:
            return None
        directions, each = 1 + bool(given["bidirectional"]), 4 if given["has_biases"] else 2
        if len(params) != each * directions * given["num_layers"]:
            return None  # with a projection
        states = given["hx"] if isinstance(given["hx"], list | tuple) else [given["hx"]]
        known = tuple(one for one in params if one is not None)
        return cls(
            node, known[0].name.rpartition(".")[0] or known[0].name, operator_name(node),
            (given["input"], *states), known, each, given["num_layers"],
            bool(given["bidirectional"]), bool(given["batch_first"]),
        )  # fmt: skip

    @classmethod
    def _find_layer(
        cls, node: fx.Node, layer: nn.RNNBase, views: WeightViews
    ) -> RecurrentCall | None:
        x, state = node.args[:2]
        states = state if isinstance(state, list | tuple) else (state,)
        leaves = [
            f"{kind}_l{number}{direction}"
            for number in range(layer.num_layers)
            for direction in ("", "_reverse")[: 1 + layer.bidirectional]
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if layer.bias else 2]
        ]
        params = tuple(one for name in leaves if (one := views.find_of_layer(node, name)))
        if layer.proj_size or not all(isinstance(one, fx.Node) for one in (x, *states)):
            return None
        return cls(
            node, str(node.target), layer.mode.lower(), (x, *states), params,  # type: ignore[arg-type]
            4 if layer.bias else 2, layer.num_layers, layer.bidirectional, layer.batch_first,
        )  # fmt: skip

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the nodes whose values it takes."""
        return tuple(one.name for one in self.inputs)

    @cached_property
    def steps(self) -> tuple[RecurrentStep, ...]:
        """Every product in it, in the order of its layers."""
        found = []
        for row in range(self.layers * (1 + self.bidirectional)):
            params = self.params[row * self.each : (row + 1) * self.each]
            biases = params[2:] or (None, None)
            for state, bias in enumerate(biases):
                found.append(RecurrentStep(self, row, bool(state), params[state], bias))
        return tuple(found)

    def trace_rows(self, values: Mapping[str, Any], row: int) -> tuple[Tensor, Tensor]:
        """Return what a layer and direction reads: its input, and its state of the step before.

        Args:
            values: Of `needs`.
            row: Number of the layer and direction.

        Returns:
            [time, batch, in] and [time, batch, hidden], in the order in which it goes through them.
        """
        x, *states = (values[name] for name in self.needs)
        x = x.transpose(0, 1) if self.batch_first else x
        directions = 1 + self.bidirectional
        for layer in range(self.layers):
            runs = []
            for direction in range(directions):
                number = layer * directions + direction
                ordered = x.flip(0) if direction else x
                first = [state[number : number + 1] for state in states]
                y = self._run(ordered, first, number)
                if number == row:
                    return ordered, torch.cat([first[0], y[:-1]])
                runs.append(y.flip(0) if direction else y)
            x = torch.cat(runs, -1)
        raise AssertionError(row)

    def _run(self, x: Tensor, states: list[Tensor], row: int) -> Tensor:
        """Return the hidden states of one layer in one direction, [time, batch, hidden]."""
        operator: Any = getattr(torch.ops.aten, self.kind).input
        params = [one.tensor for one in self.params[row * self.each : (row + 1) * self.each]]
        hx: Any = states if RECURRENT[self.kind] == 2 else states[0]
        found: Tensor = operator(x, hx, params, self.each == 4, 1, 0.0, False, False, False)[0]
        return found


@dataclass(frozen=True)
class RecurrentStep:
    """One product of a recurrent layer.

    Attributes:
        call: The layer.
        row: Number of the layer and direction.
        of_state: Whether it reads the state of the step before, not the input.
        weight: [gates * hidden, in].
        bias: [gates * hidden], or None.
    """

    call: RecurrentCall
    row: int
    of_state: bool
    weight: ParameterView
    bias: ParameterView | None

    def read_value(self, values: Mapping[str, Any]) -> Tensor:
        """Return what it reads: [batch, time, in]."""
        return self.call.trace_rows(values, self.row)[self.of_state].transpose(0, 1)
