"""Sharing a trained model: what is passed on, under which licence, and the card that describes it."""
