"""The images of an archive, decoded by a few threads, in a stream: memory does not grow with their number."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
from tqdm import tqdm

from gentrain.data.archive import Archive, File
from gentrain.data.decoding import BadImage

_TASK_FILES, _TASK_BYTES = 64, 1 << 20  # what one thread decodes at a time: bounds the memory in flight

Decoded = tuple[File, np.ndarray | BadImage | OSError]


@contextmanager
def decoded(
    archive: Archive, files: list[File], decode: Callable[[bytes], np.ndarray]
) -> Iterator[Iterable[Decoded]]:
    """Each of the files with its image, or with the reason why there is none; shows a bar.

    A context, at whose end the threads have ended.

    Args:
        archive: what the files belong to; a zip is read from its beginning to its end.
        files: in any order.
        decode: from the bytes of a file to uint8 [C, H, W]; may raise BadImage; runs in threads.
    """
    in_order = sorted(files, key=lambda file: (file.offset, file.name))
    with closing(_decoded(archive, in_order, decode)) as stream:
        yield tqdm(stream, total=len(files), desc="decoding", unit="image", disable=None)


def _decoded(
    archive: Archive, files: list[File], decode: Callable[[bytes], np.ndarray]
) -> Generator[Decoded, None, None]:
    def work(task: list[File]) -> list[Decoded]:
        results: list[Decoded] = []
        for file in task:
            try:
                results.append((file, decode(archive.read(file.name))))
            except (BadImage, OSError) as error:
                results.append((file, error))
        return results

    threads = min(os.cpu_count() or 1, 32)
    running: deque[Future[list[Decoded]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for task in _tasks(files):
                running.append(pool.submit(work, task))
                if len(running) > 2 * threads:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _tasks(files: list[File]) -> Iterator[list[File]]:
    task: list[File] = []
    size = 0
    for file in files:
        task.append(file)
        size += file.size
        if len(task) == _TASK_FILES or size > _TASK_BYTES:
            yield task
            task, size = [], 0
    if task:
        yield task
