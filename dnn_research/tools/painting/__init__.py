"""What `tools.stylize` and `tools.upscale` make pictures with."""
