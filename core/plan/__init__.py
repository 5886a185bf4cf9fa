"""What ``--plan`` prints: rounds, data, costs, and whether the parts fit each other."""
