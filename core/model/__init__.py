"""A trained model in the hands of a program: ``medweave.load`` returns a `Model`, which generates `Study` objects."""
