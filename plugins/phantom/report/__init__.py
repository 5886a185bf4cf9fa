"""Reports of the phantom: phrases, the grammar that writes them, and the rules that read them.

The package imports the findings of ``anatomy`` and nothing else of the phantom.
"""
