"""Graphs as ONNX, node by node under the names of the graph."""
