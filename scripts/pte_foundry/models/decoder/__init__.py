"""Decoder-only transformers of the Llama kind, built for Core ML.

``config``    what distinguishes a model: one frozen dataclass, read from a Hugging Face config
``rope``      rotary position embeddings as tables
``caches``    where keys and values of earlier tokens are kept: Core ML states, inputs, or nowhere
``network``   the model: embedding, blocks, head
``weights``   its parameters from safetensors
``gguf``      its config and parameters from a GGUF file
``load``      all of it from a snapshot or a GGUF file
``tokens``    the tokenizer, the chat template and the special tokens
``generate``  text from a model, whatever runs it
``metadata``  the constant methods that ExecuTorch's LLM runners read
``artifact``  how the decoder in a ``.pte`` is called

The families (:data:`pte_foundry.models.decoder.config.FAMILIES`) are tested against transformers'
own implementations: equal tokens, and logits within 1e-4 in fp32.
"""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
"""What the rule ``tokenizer`` writes beside the artifacts of a model (``tokens``)."""
