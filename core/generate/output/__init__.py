"""What a generation leaves on disk: a folder per study, files with provenance, tables and a contact sheet."""
