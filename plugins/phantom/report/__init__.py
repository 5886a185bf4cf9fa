"""The language of the reports: phrases, grammar, and reading them back."""
