"""A data set as ``core.prepare`` leaves it: its manifest, what an audit found, and canonical samples in shards."""
