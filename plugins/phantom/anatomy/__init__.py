"""The body: organs, bones and findings."""
