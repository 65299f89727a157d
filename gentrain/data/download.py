"""Published data sets: found below `root`, else downloaded by torchvision, else named one by one."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
import time
import urllib.request
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from gentrain.data.cache import lock
from gentrain.data.draws import seed_of
from gentrain.data.image_source import ImageSource
from gentrain.errors import UserError

_NO_ANSWER = 5.0  # seconds until a server counts as out of reach


class Downloaded(ImageSource):
    """Base of the data sets that are published as a few files of known MD5.

    A subclass says where below `root` the files may lie (`look`), which of them are still wanted
    (`missing`), who serves them and how they are fetched.

    Args:
        root: folder of the files, or where they are downloaded to.
        verify: compare the files with the published MD5; false for other data in this format.

    Raises:
        ValueError: a setting of `Source` out of range.
    """

    #: The class in torchvision.datasets that knows the servers and checksums.
    torchvision_name: ClassVar[str]
    #: What kind of checksum is published.
    checksum: ClassVar[str] = "MD5"
    #: Where `look` looks, for a message: "there and in ...".
    places: ClassVar[str]

    def __init__(self, *, root: str, verify: bool, **settings: Any) -> None:
        super().__init__(root=root, **settings)
        self.verify = verify

    @abstractmethod
    def look(self, root: Path) -> dict[str, Path]:
        """Where the files are that were found, by name; imports nothing slow, for every start asks."""

    @abstractmethod
    def missing(self, found: Mapping[str, Path]) -> dict[str, str]:
        """The files to fetch where `found` is not all: {name: published MD5}; empty if nothing is wanted."""

    @abstractmethod
    def servers(self) -> list[str]:
        """URLs, one of which must answer before a download is begun."""

    @abstractmethod
    def fetch(self, root: Path, missing: Mapping[str, str]) -> None:
        """Download `missing` to where `look` finds them.

        Raises:
            OSError, RuntimeError, HTTPException: it cannot be done.
        """

    @abstractmethod
    def by_hand(self, root: Path, missing: Mapping[str, str]) -> str:
        """The command or the page that gets `missing`, for a message."""

    def files(self) -> dict[str, Path]:
        """All files by name, downloaded if they are missing.

        Raises:
            UserError: they are missing and cannot be downloaded; says what to get and where to put it.
        """
        root = self.root
        assert root is not None
        found = self.look(root)
        if self.missing(found):
            # Several processes may start at once on one root.
            with lock(self.cache, f"download-{seed_of(str(root.resolve())):x}"):
                found = self.look(root)
                if missing := self.missing(found):
                    self._download(root, missing)
                    found = self.look(root)
        return found

    def _download(self, root: Path, missing: Mapping[str, str]) -> None:
        try:
            servers = self.servers()
            if not any_answers(servers):
                hosts = ", ".join(urlsplit(url).netloc for url in servers)
                raise OSError(f"no answer from {hosts} within {_NO_ANSWER:.0f} seconds")
            with _socket_timeout(2 * _NO_ANSWER):
                self.fetch(root, missing)
            if self.missing(self.look(root)):
                raise OSError("some files are still missing")
        except (RuntimeError, OSError, http.client.HTTPException) as error:
            missing = self.missing(self.look(root)) or missing
            wanted = ", ".join(f"{file} ({self.checksum} {published})" for file, published in missing.items())
            raise UserError(
                f"{self.torchvision_name} is not in {root} (looked {self.places}) and cannot be downloaded: "
                f"{error}. Wanted: {wanted}. To get them: {self.by_hand(root, missing)}; or name the folder "
                "that has them with dataset.root=FOLDER; or use dataset=digits, which needs no download"
            ) from error


def any_answers(urls: list[str]) -> bool:
    """Whether a server answers a HEAD request in time.

    In threads, because a name server that does not answer is not subject to any socket timeout.
    """
    answers: queue.Queue[bool] = queue.Queue()

    def ask(url: str) -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=_NO_ANSWER):
                answers.put(True)
        except (OSError, ValueError, http.client.HTTPException):
            answers.put(False)

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + _NO_ANSWER
    try:
        return any(answers.get(timeout=max(0.01, deadline - time.monotonic())) for _ in urls)
    except queue.Empty:
        return False


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
