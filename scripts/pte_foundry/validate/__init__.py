"""What a validation measures, what it judges by, and what it warns of."""
