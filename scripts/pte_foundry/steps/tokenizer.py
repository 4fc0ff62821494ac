"""Writes the tokenizer of a language model beside its artifacts, as files of Hugging Face's."""

from pathlib import Path

from pte_foundry.files import sha256, write_digest
from pte_foundry.job import command


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "--weights", type=Path, required=True, help="the snapshot, .zip, or the GGUF file"
    )
    parser.add_argument(
        "--output", type=Path, nargs="+", required=True, help="the files, in one folder"
    )
    parser.add_argument(
        "--digests", type=Path, nargs="+", required=True, help="their digests, for sha256sum"
    )
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.models.decoder.tokens import write_tokenizer
        from pte_foundry.models.snapshots import source_of

        with source_of(arguments.weights, weights=False) as source:
            write_tokenizer(source, arguments.output[0].parent)
        for path, note in zip(arguments.output, arguments.digests, strict=True):
            write_digest(note, path, sha256(path))

    return command.run(arguments, step, fork=command.BUILDING)


if __name__ == "__main__":
    raise SystemExit(main())
