"""``python -m pte_foundry.cli``: the same as ``pte-foundry``."""

from pte_foundry.cli.main import main

raise SystemExit(main())
