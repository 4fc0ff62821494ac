"""One command per rule, named like the rule: ``python -m pte_foundry.steps.<rule>``."""
