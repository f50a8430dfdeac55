"""The folder of a stack: one user at a time, closed secrets, and a clear word when it cannot be used."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.standalone import folder as folders
from services.standalone.child import Child, StartFailed, tail
from services.standalone.folder import Folder, running
from services.standalone.settings import PARTS, Settings, claim_ports
from streams.operations import listen

HOLD = "import sys; from pathlib import Path; from services.standalone.folder import Folder\n"


def taken(path: Path, *, free_mb: int = 0) -> tuple[Folder, list[str]]:
    """A folder taken by this process, and what it said meanwhile."""
    said: list[str] = []
    folder = Folder(path)
    folder.take(free_mb, said.append)
    return folder, said


def test_a_second_stack_is_refused_with_the_process_that_has_the_folder(tmp_path: Path) -> None:
    """Two supervisors on one data folder would ruin it."""
    taken(tmp_path)

    with pytest.raises(StartFailed, match=rf"already runs in {tmp_path} \(process {os.getpid()}\).*PUMPWATCH_VAR"):
        taken(tmp_path)


def test_a_folder_is_free_again_when_its_process_is_gone(tmp_path: Path) -> None:
    """A process id left behind by a killed supervisor stops nobody."""
    gone = subprocess.run(
        [sys.executable, "-c", f"{HOLD}Folder(Path(sys.argv[1])).take(0, print)", str(tmp_path)],
        check=True,
        timeout=60,
        capture_output=True,
    )

    _, said = taken(tmp_path)

    assert (gone.stdout, said) == (b"", [])


def test_children_of_a_killed_supervisor_are_waited_for(tmp_path: Path) -> None:
    """They still use the data: a new stack starts when the last of them has ended."""
    script = (
        f"{HOLD}import subprocess\nfolder = Folder(Path(sys.argv[1]))\nfolder.take(0, print)\n"
        "print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, pass_fds=(folder.lock,)).pid)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    left = int(subprocess.run(argv, check=True, timeout=60, stdout=subprocess.PIPE).stdout)
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        os.kill(left, signal.SIGKILL)

    Folder(tmp_path).take(0, hear)

    assert said == ["waiting for the processes of the run before, which was cut off"]


def test_too_little_space_is_said_before_anything_starts(tmp_path: Path) -> None:
    """The message names what is free, what is asked for, and what to set."""
    with pytest.raises(StartFailed, match=r"only .* MB are free.*asks for 999999999 MB.*PUMPWATCH_VAR"):
        taken(tmp_path, free_mb=999_999_999)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The person learns which setting to change."""
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(StartFailed, match=f"cannot use {file}/var for data.*PUMPWATCH_VAR"):
        taken(file / "var")


def test_secrets_stay_the_same_and_are_closed_to_others(tmp_path: Path) -> None:
    """A secret is made once; neither it nor its folder can be read by other users."""
    folder, _ = taken(tmp_path)

    first, second = folder.secret("word", lambda: "one"), folder.secret("word", lambda: "two")

    assert (first, second) == ("one", "one")
    assert stat.S_IMODE(folder.secret_path("word").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.secret_path("word").parent.stat().st_mode) == 0o700


def test_status_is_known_only_while_the_stack_lives(tmp_path: Path) -> None:
    """A status left behind by a killed supervisor is not taken for a running stack."""
    folder, _ = taken(tmp_path)
    assert running(tmp_path) is None

    folder.announce({"web": "http://127.0.0.1:1"})
    assert running(tmp_path) == {"web": "http://127.0.0.1:1"}

    os.close(folder.lock)
    assert running(tmp_path) is None


def test_status_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Nothing runs there, and nothing is made."""
    assert running(tmp_path / "nowhere") is None
    assert not (tmp_path / "nowhere").exists()


def test_free_ports_are_all_different() -> None:
    """Port 0 takes a free one for each part."""
    ports = claim_ports(Settings.model_validate(dict.fromkeys(PARTS, 0)))

    assert ports.keys() == PARTS.keys()
    assert len(set(ports.values())) == len(PARTS)
    assert all(ports.values())


@pytest.mark.parametrize("name", PARTS)
def test_a_taken_port_is_named_with_its_part_and_its_setting(name: str) -> None:
    """Whichever port it is, the message says what to set."""
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]

        with pytest.raises(StartFailed) as failed:
            claim_ports(Settings.model_validate({**dict.fromkeys(PARTS, 0), name: port}))

    assert all(word in str(failed.value) for word in (str(port), PARTS[name], f"PUMPWATCH_{name.upper()}"))


async def test_a_log_that_has_grown_too_long_begins_anew(tmp_path: Path) -> None:
    """What a program said before is kept once."""
    child = Child("talker", [sys.executable, "-c", "print('x' * 5000)"], env={}, log=tmp_path / "talker.log")
    child.start()
    await child.ended()

    assert child.trim_log(limit_bytes=1000)
    assert tail(child.log) == ""
    assert (tmp_path / "talker.log.1").stat().st_size > 5000
    assert not child.trim_log(limit_bytes=1000)


def test_an_earlier_stack_whose_processes_do_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting has a limit."""
    monkeypatch.setattr(folders, "LEAVING_SECONDS", 0.0)
    folder, _ = taken(tmp_path)
    os.pwrite(folder.lock, b"none  ", 0)

    with pytest.raises(StartFailed, match="do not end"):
        taken(tmp_path)
