"""What `tools.benchmark` is made of: networks and input pipelines, contenders, peers, fresh processes, the report."""
