"""Measures of what generated images show: outlines, anatomy, fidelity, intensity, and response to their inputs."""
