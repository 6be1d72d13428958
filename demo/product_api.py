"""The product API: the supplier's HTTP server, which answers 503 at times and writes down every request."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from demo.shop import Product

_PLAN = (0, 1, 0, 2, 0, 0, 1)
"""How many times the products answer 503 before they answer, in turn."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A request that the API has answered, as its record has it; `at` in seconds."""

    at: float
    method: str
    path: str
    status: int


class Catalogue:
    """The products of the supplier, and how often a request for each fails at first: a plan, without chance."""

    def __init__(self, *, products: int, broken: int) -> None:
        self.broken = broken
        self.products = {n: Product(price=995 + 37 * n, stock=n * 13 % 50) for n in range(1, products + 1)}

    def failures(self, product_id: int) -> int:
        """Return how many times a product answers 503 before it answers; the broken one does until it is mended."""
        return 0 if product_id == self.broken else _PLAN[product_id % len(_PLAN)]


class ProductApi:
    """
    Serves `GET /products/<id>` and `POST /products/<id>/mend` from threads of its own.

    Every answer is a line of the record, a file, before it is sent.
    """

    def __init__(self, catalogue: Catalogue, *, record: Path) -> None:
        self._catalogue = catalogue
        self._record = record
        self._asked: Counter[int] = Counter()
        self._is_mended = False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> str:
        """Listen; returns the API's address."""
        self._record.touch()
        self._thread.start()
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, method: str, path: str) -> tuple[HTTPStatus, Any]:
        with self._lock:
            status, body = self._look_up(method, path.strip("/").split("/"))
            answer = Answer(at=time.time(), method=method, path=path, status=status)
            with self._record.open("a") as record:
                record.write(json.dumps(asdict(answer)) + "\n")
        return status, body

    def _look_up(self, method: str, parts: list[str]) -> tuple[HTTPStatus, Any]:
        match method, parts:
            case "GET", ["products", number] if number.isdigit() and int(number) in self._catalogue.products:
                product_id = int(number)
                self._asked[product_id] += 1
                if self._fails(product_id):
                    return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again later"}
                return HTTPStatus.OK, self._catalogue.products[product_id]._asdict()
            case "POST", ["products", number, "mend"] if number == str(self._catalogue.broken):
                self._is_mended = True
                return HTTPStatus.OK, {}
        return HTTPStatus.NOT_FOUND, {"error": "there is no such thing"}

    def _fails(self, product_id: int) -> bool:
        if product_id == self._catalogue.broken:
            return not self._is_mended
        return self._asked[product_id] <= self._catalogue.failures(product_id)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = api._answer(self.command, self.path)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_args: object) -> None:
                """Say nothing on the terminal: the record has it all."""

        return Handler


class Record(NamedTuple):
    """The API's record of one product."""

    unavailable: int
    delivered: int
    asked_at: list[float]


def mend(api_url: str, product_id: int) -> None:
    """Tell the API to mend a product: the call that an operator would make."""
    with urlopen(Request(f"{api_url}/products/{product_id}/mend", method="POST"), timeout=30):
        pass


def read_record(path: Path, product_id: int) -> Record:
    """Return what the API wrote down about a product."""
    answers = [Answer(**json.loads(line)) for line in path.read_text().splitlines()]
    asked = [answer for answer in answers if answer.method == "GET" and answer.path == f"/products/{product_id}"]
    return Record(
        unavailable=sum(answer.status == HTTPStatus.SERVICE_UNAVAILABLE for answer in asked),
        delivered=sum(answer.status == HTTPStatus.OK for answer in asked),
        asked_at=[answer.at for answer in asked],
    )
