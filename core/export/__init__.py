"""A trained model to pass on: what is written, under which licence, and the card that describes it."""
