"""The four stories that the kit is made for, told by an async test and by one that is not."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.testing import use_memory

BERLIN = ZoneInfo("Europe/Berlin")


class MailServer:
    """Takes mails, but for the times that it is down."""

    def __init__(self):
        self.outages = 0
        self.sent = []

    def deliver(self, user_id):
        if self.outages:
            self.outages -= 1
            raise ConnectionError("the mail server is down")
        self.sent.append(user_id)


class Shop:
    """An application: its manager on a file that no test may touch, its tasks, and what calls them."""

    def __init__(self, folder):
        self.folder = folder
        self.mails = MailServer()
        self.cleaned = []
        self.manager = manager = BackgroundTaskManager(f"sqlite:///{folder}/tasks.db")

        @manager.task(name="shop.send_welcome", queue="emails", retry_delay_seconds=1200)
        async def send_welcome(user_id: int, greeting: str = "hello"):
            self.mails.deliver(user_id)

        @manager.task(name="shop.clean_up")
        def clean_up():
            self.cleaned.append(self.clock.now())

        @manager.task(name="shop.export", unique="until_done")
        async def export(report: str):
            pass

        self.send_welcome, self.clean_up, self.export = send_welcome, clean_up, export

    async def sign_up(self, user_id):
        await self.send_welcome.enqueue(user_id)

    def sign_up_blocking(self, user_id):
        self.manager.sync.enqueue_task(self.send_welcome, args=[user_id])


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.fixture
def task_kit(shop):
    with use_memory(shop.manager) as kit:
        shop.clock = kit.clock
        yield kit
    assert list(shop.folder.iterdir()) == []


async def test_signing_up_enqueues_a_welcome_mail(shop, task_kit):
    await shop.sign_up(42)

    await task_kit.assert_enqueued(shop.send_welcome, args=[42], queue="emails")


async def test_the_mail_is_tried_again_and_is_sent_an_hour_later(shop, task_kit):
    shop.mails.outages = 2
    job = await shop.send_welcome.enqueue(42)

    await task_kit.advance(hours=1)

    assert shop.mails.sent == [42]
    assert (await shop.manager.get_task_status(job)).attempts == 3


async def test_the_clean_up_fires_at_three_in_the_morning_in_berlin(shop, task_kit):
    await shop.manager.schedule_recurring_task(
        "clean-up", shop.clean_up, cron_expression="0 3 * * *", timezone="Europe/Berlin"
    )

    await task_kit.advance(days=1)

    assert [moment.astimezone(BERLIN).hour for moment in shop.cleaned] == [3]


async def test_a_double_click_makes_one_export(shop, task_kit):
    await shop.export.enqueue("sales")
    await shop.export.enqueue("sales")

    await task_kit.assert_enqueued(shop.export, args=["sales"], count=1)


def test_without_async_signing_up_enqueues_a_welcome_mail(shop, task_kit):
    shop.sign_up_blocking(42)

    task_kit.sync.assert_enqueued(shop.send_welcome, args=[42], queue="emails")


def test_without_async_the_mail_is_tried_again_and_is_sent_an_hour_later(shop, task_kit):
    shop.mails.outages = 2
    job = shop.manager.sync.enqueue_task(shop.send_welcome, args=[42])

    task_kit.sync.advance(hours=1)

    assert shop.mails.sent == [42]
    assert shop.manager.sync.get_task_status(job).attempts == 3


def test_without_async_the_clean_up_fires_at_three_in_the_morning_in_berlin(shop, task_kit):
    shop.manager.sync.schedule_recurring_task(
        "clean-up", shop.clean_up, cron_expression="0 3 * * *", timezone="Europe/Berlin"
    )

    task_kit.sync.advance(days=1)

    assert [moment.astimezone(BERLIN).hour for moment in shop.cleaned] == [3]


def test_without_async_a_double_click_makes_one_export(shop, task_kit):
    for _ in range(2):
        shop.manager.sync.enqueue_task(shop.export, args=["sales"])

    task_kit.sync.assert_enqueued(shop.export, args=["sales"], count=1)


async def test_each_of_these_takes_its_moment_on_the_clock(shop, task_kit):
    start = task_kit.now
    shop.mails.outages = 2
    await shop.send_welcome.enqueue(42)

    summary = await task_kit.advance(hours=3)

    assert [run.started_at - start for run in summary.runs] == [timedelta(minutes=each) for each in (0, 20, 60)]
    assert task_kit.now == start + timedelta(hours=3)


@pytest.mark.parametrize("day", [datetime(2031, 3, 29, 12, tzinfo=UTC), datetime(2031, 10, 25, 12, tzinfo=UTC)])
async def test_the_clean_up_fires_once_a_day_when_the_clocks_are_changed(shop, day):
    with use_memory(shop.manager, start=day) as kit:
        shop.clock = kit.clock
        await shop.manager.schedule_recurring_task(
            "clean-up", shop.clean_up, cron_expression="0 3 * * *", timezone="Europe/Berlin"
        )
        await kit.advance(days=3)
    assert [moment.astimezone(BERLIN).hour for moment in shop.cleaned] == [3, 3, 3]
