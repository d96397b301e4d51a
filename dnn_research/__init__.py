"""The classic deep convolutional networks, from AlexNet to MobileNet, exact to their papers, in JAX and Flax."""

__version__ = "0.1.0"
