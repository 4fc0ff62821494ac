"""The constant methods that ExecuTorch's LLM runners read from a ``.pte``.

Names are those of executorch 1.5, ``extension/llm/runner/constants.h``; ``get_n_layers`` is what
its exporter adds (``examples/models/llama/export_llama_lib.py``, ``_load_llama_model_metadata``).
Only ``get_max_seq_len`` is required there, the others have defaults that may be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from pte_foundry.models.decoder.config import DecoderConfig
from pte_foundry.models.decoder.generate import Interface

Constants = dict[str, int | bool | list[int]]


def constant_methods(
    config: DecoderConfig, interface: Interface, begin: int | None, ends: Sequence[int]
) -> Constants:
    """Returns the constant methods of an artifact, by name.

    Args:
        config: of the model.
        interface: how the artifact is called.
        begin: the token that starts a text; None if there is none.
        ends: the tokens that end an answer; none if unknown.
    """
    lengths = [length for accepted in interface.lengths.values() for length in accepted]
    # A runner with enable_dynamic_shape reads a prompt in calls of any length up to
    # get_max_seq_len, and otherwise token by token (text_prefiller.cpp).
    every = set(range(1, max(lengths) + 1)) <= set(lengths)
    found: Constants = {
        "get_max_seq_len": max(lengths),
        "get_max_context_len": interface.context_length,
        "get_n_layers": config.layers,
        "get_vocab_size": config.vocab_size,
        "use_kv_cache": interface.cache != "none",
        "use_sdpa_with_kv_cache": False,
        "enable_dynamic_shape": every and len(lengths) > 1,
    }
    found |= {} if begin is None else {"get_bos_id": begin}
    return found | ({"get_eos_ids": list(ends)} if ends else {})
