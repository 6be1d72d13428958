"""The command as a module: `python -m deeper_tasks.cli`."""

from deeper_tasks.cli import main

main()
