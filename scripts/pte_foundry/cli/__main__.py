from pte_foundry.cli.main import main

raise SystemExit(main())
