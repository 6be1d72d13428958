"""The mail server: real SMTP on the loopback, with a mailbox on disk."""

from __future__ import annotations

import asyncio
import mailbox
from email import message_from_bytes
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session


class MailServer:
    """
    Takes mail for everybody and stores it in a Maildir.

    After `hold_after` mails it keeps its answers back, as a slow server does,
    until `release`: the mail is stored, and its sender does not know yet. So a
    sender that is killed meanwhile certainly had a job under way.

    Attributes:
        held: of the mails that wait for an answer, the job's id and the sending process.
    """

    def __init__(self, folder: Path, *, hold_after: int) -> None:
        self._mailbox = mailbox.Maildir(folder, create=True)
        self._until_hold = hold_after
        self._answers = asyncio.Event()
        self._answers.set()
        self._server: asyncio.Server | None = None
        self.held: dict[str, int] = {}

    async def start(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(self, hostname="mail.shop.example"), "127.0.0.1", 0
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    @property
    def is_holding(self) -> bool:
        """Whether answers are kept back."""
        return not self._answers.is_set()

    def release(self) -> None:
        """Answer again, and keep no answer back any more."""
        self._until_hold = 0
        self._answers.set()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        """Store a mail, and answer when answers are given."""
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content)
        self._mailbox.add(message)
        if self._until_hold > 0:
            self._until_hold -= 1
            if self._until_hold == 0:
                self._answers.clear()
        job_id = job_of(message["Message-ID"])
        self.held[job_id] = int(message["X-Sent-By-Process"])
        try:
            await self._answers.wait()
        finally:
            self.held.pop(job_id, None)
        return "250 stored"


class Letter:
    """A mail of the mailbox."""

    def __init__(self, message: mailbox.MaildirMessage) -> None:
        self.recipient = str(message["To"]).partition("<")[2].rstrip(">")
        self.job_id = job_of(message["Message-ID"])


def read_mailbox(folder: Path) -> list[Letter]:
    """Return all mails that lie on the disk."""
    return [Letter(message) for message in mailbox.Maildir(folder, create=False)]


def job_of(message_id: str) -> str:
    """Return the id of the job that sent a mail."""
    return message_id.strip().lstrip("<").partition("@")[0]
