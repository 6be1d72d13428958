"""The video: ffmpeg makes a clip, transcodes it, and reads the outcome back."""

from __future__ import annotations

import re
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg  # type: ignore[import-untyped]

CLIP_SECONDS = 4
FRAMES_PER_SECOND = 25

_PATIENCE_SECONDS = 60
_CODECS = {
    "mp4": ["-c:v", "libx264", "-c:a", "aac"],
    "webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "5", "-b:v", "1M", "-c:a", "libopus"],
}
_DURATION = re.compile(r"Duration: (\d+):(\d+):([\d.]+)")


class FfmpegError(Exception):
    """Ffmpeg could not do what it was asked to; the message is its own."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The content of a video file, found by decoding all of it."""

    container: str
    video: str
    audio: str
    frames: int

    def __str__(self) -> str:
        return f"{self.container}, {self.video}, {self.audio}, {self.frames} frames"


def make_clip(path: Path) -> None:
    """Make a test picture with a tone, 720 lines high."""
    _run([
        *("-f", "lavfi", "-i", f"testsrc2=duration={CLIP_SECONDS}:size=1280x720:rate={FRAMES_PER_SECOND}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={CLIP_SECONDS}"),
        *("-c:v", "mpeg4", "-q:v", "4", "-c:a", "pcm_s16le", str(path)),
    ])  # fmt: skip


def transcode(source: Path, target: Path, *, kind: str, on_progress: Callable[[float], None]) -> None:
    """Transcode to "mp4" or "webm", telling which part is done, from 0 to 1."""
    duration = _duration(source)
    options = ["-progress", "pipe:1", "-stats_period", "0.1"]
    command = _command("-i", str(source), *_CODECS[kind], *options, "-f", kind, str(target))
    said: deque[str] = deque(maxlen=5)
    done = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            name, _, value = line.strip().partition("=")
            if name == "out_time_us" and value.isdigit():
                # Its time goes back when the encoders are emptied at the end.
                done = max(done, min(int(value) / 1_000_000 / duration, 1.0))
                on_progress(done)
            elif not value:
                said.append(line.strip())
    if process.returncode != 0:
        raise FfmpegError(" / ".join(said) or f"exit code {process.returncode}")
    on_progress(1.0)


def probe(path: Path) -> Contents:
    """Decode a whole file; raises FfmpegError where that fails anywhere."""
    command = _command("-v", "info", "-xerror", "-i", str(path), "-progress", "pipe:1", "-f", "null", "-")
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    if done.returncode != 0:
        raise FfmpegError(f"{path.name} does not decode: {done.stderr[-300:].strip()}")
    frames = re.findall(r"^frame=\s*(\d+)", done.stdout, re.MULTILINE)
    return Contents(
        container=_first(r"Input #0, (\w+)", done.stderr),
        video=_first(r"Video: (\w+)", done.stderr),
        audio=_first(r"Audio: (\w+)", done.stderr),
        frames=int(frames[-1]) if frames else 0,
    )


def _duration(path: Path) -> float:
    # Without an output ffmpeg describes the input, and complains: its exit code says nothing.
    command = _command("-v", "info", "-i", str(path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    found = _DURATION.search(done.stderr)
    if found is None:
        raise FfmpegError(f"{path.name} is no video: {done.stderr[-300:].strip()}")
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _run(arguments: Sequence[str]) -> None:
    command = _command(*arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    if done.returncode != 0:
        raise FfmpegError(done.stderr[-300:].strip())


def _command(*arguments: str) -> list[str]:
    return [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", "-v", "error", *arguments]


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else "nothing"
