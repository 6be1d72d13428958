"""The session: everything around the tasks, set up before the first one runs and gone after the last."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.mail_server import MailServer
from demo.product_api import Catalogue, ProductApi
from demo.shop import Shop
from demo.site import Site
from demo.workers import Crew

PRODUCTS, BROKEN_PRODUCT = 40, 13
KEPT_DAYS = 30
OLD_SESSIONS, RECENT_SESSIONS = 320, 180
CLIP = "holiday.mkv"

_MAILS_BEFORE_HOLD = 40


class DemoSession:
    """The shop with its rows, the two servers and the workers of one run, all of it in one folder."""

    def __init__(self, folder: Path) -> None:
        self.mailbox = folder / "mailbox"
        self.record = folder / "product-api.jsonl"
        self.mail = MailServer(self.mailbox, hold_after=_MAILS_BEFORE_HOLD)
        self.catalogue = Catalogue(products=PRODUCTS, broken=BROKEN_PRODUCT)
        self._folder = folder
        self._api = ProductApi(self.catalogue, record=self.record)

    async def __aenter__(self) -> Self:
        self.site = Site(folder=self._folder, smtp_port=await self.mail.start(), api_url=self._api.start())
        self.crew = Crew(self.site)
        self.shop = Shop(self.site.database)
        self.site.videos.mkdir()
        self._open_shop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mail.release()
        try:
            # In a thread, which another Ctrl-C does not interrupt: mails under way are still answered meanwhile.
            await asyncio.to_thread(self.crew.end)
        finally:
            self.mail.stop()
            self._api.stop()

    def _open_shop(self) -> None:
        now, kept = datetime.now(UTC), timedelta(days=KEPT_DAYS)
        self.shop.create()
        self.shop.add_sessions(OLD_SESSIONS, last_used=now - kept - timedelta(days=1))
        self.shop.add_sessions(RECENT_SESSIONS, last_used=now)
