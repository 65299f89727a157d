"""How threads wait for one another on a busy machine; imports nothing of torch.

Between two parallel regions the threads of GNU OpenMP, which torch's wheels for Linux bring, spin for
milliseconds before they sleep. On an idle machine that is why small steps are fast. Where other processes
want the same cores, a thread that spins keeps the one that it waits for from running, and a step takes many
times as long. The library spins very shortly once it manages more threads than there are processors, but it
counts its own threads alone. So a watch looks at the load, and while the machine is busy it parks a sleeping
pool of threads with the library, which makes the count say so. No number is touched: neither the threads that
compute nor how work is split between them.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

#: Seconds between two looks at the load.
INTERVAL = 0.5
#: Cores that others may use beside our threads: more is busy, less than the second is idle again.
BUSY, IDLE = 0.25, 0.1
_NAME = "gentrain-load"
#: Looks in a row that must find it idle.
PATIENCE = 3
#: What the user may have set; then nothing is done.
LEFT_TO_THE_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def watch() -> threading.Thread | None:
    """Look at the load until this process ends, and let threads wait as fits it.

    To be called before torch is imported. Does nothing where the user has said how threads are to wait, or
    where the system does not tell its load.

    Returns:
        The thread that looks; None where nothing is done.
    """
    if any(os.environ.get(name) for name in LEFT_TO_THE_USER) or not Path("/proc/stat").is_file():
        return None
    for thread in threading.enumerate():
        if thread.name == _NAME:  # one looks for all commands of a process
            return thread
    watching = threading.Thread(target=_Watch().run, name=_NAME, daemon=True)
    watching.start()
    return watching


class Load:
    """The cores that other processes use, from one look to the next."""

    def __init__(self, cores: Collection[int]) -> None:
        self.cores = cores
        self._before: tuple[float, float, float] | None = None

    def others(self) -> float:
        """Cores' worth of work of other processes on our cores since the last call; 0 at the first."""
        all_ = busy_seconds(Path("/proc/stat").read_text(), self.cores)
        now = (time.monotonic(), all_, time.process_time())
        before, self._before = self._before or now, now
        wall, all_, own = (b - a for a, b in zip(before, now, strict=True))
        return max(0.0, all_ - own) / wall if wall > 0 else 0.0


def busy_seconds(stat: str, cores: Collection[int]) -> float:
    """Seconds in which `cores` have worked, summed, by the text of /proc/stat (proc(5))."""
    ticks = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _, _, irq, softirq = map(int, fields[:7])
            ticks += user + nice + system + irq + softirq
    return ticks / os.sysconf("SC_CLK_TCK")


class Judgement:
    """Whether the machine is busy, with some patience: a change costs a little each time."""

    def __init__(self) -> None:
        self.busy = False
        self._calm = 0

    def look(self, others: float, cores: int, threads: int) -> bool:
        """Take in the cores that others use beside our `threads` on `cores`; whether it is busy now."""
        wanting = others - (cores - threads)  # cores that others and we both want
        self._calm = self._calm + 1 if wanting < IDLE else 0
        if threads > 1 and wanting > BUSY:
            self.busy = True
        elif self._calm >= PATIENCE or threads == 1:
            self.busy = False
        return self.busy


class Pools:
    """Parked pools of threads, one in each GNU OpenMP library of this process."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._release: threading.Event | None = None
        self._keepers: list[threading.Thread] = []

    def park(self) -> None:
        """Have each library manage more threads than there are cores; they sleep."""
        if self._release is not None or not (libraries := gnu_openmp()):
            return
        self._release = threading.Event()
        self._keepers = [
            threading.Thread(target=self._keep, args=(path, self._release), daemon=True) for path in libraries
        ]
        for keeper in self._keepers:
            keeper.start()

    def _keep(self, path: str, release: threading.Event) -> None:
        libc = ctypes.CDLL(None)
        nothing = ctypes.cast(libc.free, ctypes.c_void_p)  # free(NULL), in every thread of the pool
        ctypes.CDLL(path).GOMP_parallel(nothing, None, ctypes.c_uint(self._cores + 1), ctypes.c_uint(0))
        release.wait()  # the library frees the pool when the thread that made it ends

    def free(self) -> None:
        """Undo `park`."""
        if self._release is not None:
            self._release.set()
            for keeper in self._keepers:
                keeper.join()
            self._release, self._keepers = None, []


def gnu_openmp() -> list[str]:
    """The paths of the GNU OpenMP libraries that are loaded."""
    lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    mapped = {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6}
    return sorted(path for path in mapped if Path(path).name.startswith("libgomp"))


class _Watch:
    def __init__(self) -> None:
        self._cores = os.sched_getaffinity(0)
        self._load = Load(self._cores)
        self._judgement = Judgement()
        self._pools = Pools(len(self._cores))

    def run(self) -> None:
        try:
            while True:
                self.look()
                time.sleep(INTERVAL)
        except (OSError, ValueError, AttributeError):  # the system tells otherwise than it should
            self._pools.free()

    def look(self) -> None:
        threads = threads_of(sys.modules)
        if self._judgement.look(self._load.others(), len(self._cores), threads):
            self._pools.park()
        else:
            self._pools.free()


def threads_of(modules: Mapping[str, object]) -> int:
    """How many threads torch computes with; as many as are usual while it is not imported yet."""
    ask = getattr(modules.get("torch"), "get_num_threads", None)
    return int(ask()) if ask is not None else (os.cpu_count() or 1)
