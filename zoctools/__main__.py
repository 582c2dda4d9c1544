"""``python -m zoctools``: the `zoc` command of this Python."""

from __future__ import annotations

from zoctools.cli.main import main

if __name__ == "__main__":
    main()
