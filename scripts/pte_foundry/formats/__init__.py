"""File formats: read, described and written in canonical form, without executing anything.

- ``.pte`` (executorch 1.5): :mod:`~pte_foundry.formats.pte_file` reads one,
  :mod:`~pte_foundry.formats.pte_schema` lists its tables,
  :mod:`~pte_foundry.formats.flatbuffer` decodes them,
  :mod:`~pte_foundry.formats.inspect_pte` describes and verifies a program,
  :mod:`~pte_foundry.formats.canonical_pte` makes its bytes reproducible,
  :mod:`~pte_foundry.formats.artifact` writes the one that ships.
- Core ML delegates inside a ``.pte``: :mod:`~pte_foundry.formats.delegate_blob` is the container,
  :mod:`~pte_foundry.formats.coreml_delegate` its contents.
- Core ML models (coremltools 9.0): :mod:`~pte_foundry.formats.mlpackage` reads the folder,
  :mod:`~pte_foundry.formats.weight_blob` its ``weight.bin``,
  :mod:`~pte_foundry.formats.mil_dtypes` lists MIL's data types,
  :mod:`~pte_foundry.formats.mil_contents` counts operations and weights.

This package imports ``errors``, ``files``, ``canonical_json`` and ``upstream`` alone. Files are
untrusted: every reader checks bounds and raises ProgramError.
"""
