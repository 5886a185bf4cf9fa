"""What a modality brings, how plugins are found, and how their parts are built."""
