"""The benchmark networks in PyTorch: run by the peer's Python, which has torch and NumPy and nothing of ours."""
