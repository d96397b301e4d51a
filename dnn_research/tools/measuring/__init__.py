"""What `tools.benchmark` is made of: the networks, the contenders, the peer, fresh processes, the report."""
