"""The configuration: its pydantic models, the checks before any work, and what each stage reads.

Nothing is handed on here on purpose: the rules make every imported module an input of a step, so
a step that needs one small part (``structure``) must not pull in the rest.
"""
