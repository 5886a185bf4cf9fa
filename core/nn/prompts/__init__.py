"""Prompt encoders of images, volumes and text."""
