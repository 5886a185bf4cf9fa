"""Prepared data sets: samples in canonical form on disk, in shards, with what they were made from."""
