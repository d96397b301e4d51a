"""Other people's weights in, ours out, with a certificate: `python -m dnn_research.weights {import,export,certify}`."""
