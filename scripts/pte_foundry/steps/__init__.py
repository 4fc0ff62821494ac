"""One command per rule, named like the rule: ``python -m pte_foundry.steps.<rule>``."""

import signal
import sys

# Here, because it is imported first: Ctrl-C ends a command without a traceback. Snakemake tells of
# it. While it writes, a step is interrupted by an exception (job.command).
if (
    any(part.startswith(f"{__name__}.") for part in sys.orig_argv[1:4])
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not ignored
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
