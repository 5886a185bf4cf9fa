"""Autoencoders: KL for images and volumes, Optimus for text."""
