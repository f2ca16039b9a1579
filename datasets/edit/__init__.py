"""New data sets out of old ones: converted, split, merged.  The old ones are only read."""
