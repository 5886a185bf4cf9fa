"""Trains and keeps the last checkpoint of every stage, whose moments are the gradients of its one step.

Started by torchrun as a script.
"""

import sys

import core.cli.command
import core.train
from core.engine.trainer import Trainer

Trainer.forget = lambda self, title: None
core.cli.command.run(core.train.main, sys.argv[1:])
