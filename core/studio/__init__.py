"""A local page on which one describes a study, sees it appear, and downloads it (``python -m core.studio``)."""
