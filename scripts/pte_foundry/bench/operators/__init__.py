"""Every torch operator that Core ML's frontend registers, through the pipeline and the interpreter.

``python -m pte_foundry.bench.operators``, or ``make operators``, lowers and executes a few hundred
small programs in fp32 and fp16, compares each with torch, and writes the table of what is right,
repaired, refused (``lowering/OPERATORS.md``). The operators and most of their arguments are read
from coremltools and torch, so a new version of either brings its own.

``patterns`` lists the calls, ``program`` runs one, ``sweep`` runs all, ``table`` writes them down.
"""
