"""Denoisers: their configs, the sites of context attention, and the UNets in 0, 2 and 3 dimensions."""
