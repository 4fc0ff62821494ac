"""The smallest tokenizer of any text: each byte is a token."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers


def byte_tokenizer() -> Tokenizer:
    """Returns a tokenizer of 256 tokens, without special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: n for n, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_byte_tokenizer(folder: Path, template: str | None = None) -> None:
    """Writes it into a snapshot, with ``<bos>``, ``<eos>`` (256, 257) and a chat template."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), bos_token="<bos>", eos_token="<eos>"
    )
    made.chat_template = template
    made.save_pretrained(folder)
