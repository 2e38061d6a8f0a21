from qwen3_profile.__main__ import main

raise SystemExit(main())
