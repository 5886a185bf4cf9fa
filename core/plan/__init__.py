"""What ``--plan`` prints: rounds, data, costs, and whether the parts are compatible."""
