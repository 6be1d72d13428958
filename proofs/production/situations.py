"""The situations: the list of all that are played, in this order. A new one is a module beside, and a line here."""

from __future__ import annotations

from proofs.production import (
    comebacks,
    failovers,
    file_names,
    group_mates,
    hidden_processes,
    like_machines,
    lock_files,
    process_1,
    read_only_root,
    read_only_users,
    session_settings,
    web_servers,
)
from proofs.production.situation import Situation

SITUATIONS: tuple[Situation, ...] = (
    lock_files.SITUATION,
    group_mates.SITUATION,
    read_only_users.SITUATION,
    read_only_root.SITUATION,
    file_names.SITUATION,
    process_1.SITUATION,
    *hidden_processes.SITUATIONS,
    *like_machines.SITUATIONS,
    *comebacks.SITUATIONS,
    *failovers.SITUATIONS,
    session_settings.SITUATION,
    web_servers.UWSGI,
    web_servers.GUNICORN,
    web_servers.GREENLETS,
)
