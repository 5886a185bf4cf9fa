"""The command line: parsing, messages, columns of text, and the console script."""
