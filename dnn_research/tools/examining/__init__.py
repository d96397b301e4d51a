"""What `tools.data` looks at in a data set: its examples one by one, and pictures of them."""
