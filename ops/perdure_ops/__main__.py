"""``python -m perdure_ops`` is the ``perdure`` command; the supervisor starts its children this way."""

from perdure_ops.cli import main

if __name__ == "__main__":
    main()
