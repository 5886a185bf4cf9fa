"""Denoisers: their configs, the places where context attention attaches, and the UNets in 0, 2 and 3 dimensions."""
