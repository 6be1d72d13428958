"""The command as a module: `python -m deeper_tasks.cli`."""

from deeper_tasks_command import main

main()
