"""The parts of `dnn_research.tools.evaluate`."""
