"""The flow: its grammar, its rounds, the patients of each round, and the run that follows it."""
