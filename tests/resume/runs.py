"""The run that all tests of this folder train: the toy flow, short, with every step in its log."""

FLOW = ["--flow", "toy_vector-toy_grid", "--data", "toy"]
SHORT = ["--steps", "40", "--set", "training.log_every=1", "--set", "training.save_every=7"]
SHORT += ["--set", "training.measure.samples=8", "--set", "training.measure.steps=4"]
