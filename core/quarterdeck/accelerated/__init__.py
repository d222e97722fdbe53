"""Compiled models for a GPU: the scoring part of a program as an ONNX graph. Features are encoded as on every other node."""
