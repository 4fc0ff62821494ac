"""What the rules need: the table of stages, slices of the config, code digests, resources."""
