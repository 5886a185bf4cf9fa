"""What every phase trains with: random generators, the step loop, weights on disk, the log."""
