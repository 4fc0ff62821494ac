"""Models that need no Python file: one file a kind, with the functions of a model module.

``pte_foundry.models.module`` documents the functions, ``config.models.ORIGINS`` lists the kinds. To
add one: a file ``<kind>_source.py`` here, and an entry there.
"""


def name_of(origin: str) -> str:
    """Returns the module with the functions of a kind of model."""
    return f"{__name__}.{origin}_source"
