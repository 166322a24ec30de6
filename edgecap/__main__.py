"""``python -m edgecap`` is the ``edgecap`` command."""

from edgecap.cli import main

if __name__ == "__main__":
    main()
