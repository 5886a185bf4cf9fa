"""What every phase trains with: seeds, the step loop, weights on disk, the log."""
