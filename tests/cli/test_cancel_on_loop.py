# SPDX-License-Identifier: MIT
"""``updater cancel`` by the real program, with the real pipeline on a board's slots."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from board_on_loop import ROOT_BYTES, make_image
from conformance.desk import Desk, Image
from workshop import Workshop

WHY = "the site is on battery"
TOLD = f"cancelled: {WHY}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A file system that boots."""
    return Image.of(make_image(tmp_path_factory.mktemp("images") / "small.ext4", ROOT_BYTES))


@pytest.fixture
def desk(image: Image, tmp_path: Path) -> Iterator[Desk]:
    """A board that is in the middle of a download, which does not come to its end by itself."""
    with Desk(tmp_path, image) as it:
        it.start()
        it.cloud.wait_for_version("1.0.0")
        it.offer_slowly()
        it.bucket.is_stalled = True
        yield it


def assert_cancelled(desk: Desk) -> None:
    """Assert that the cloud hears of it once, and that nothing is left that boots or goes on."""
    failure = desk.cloud.wait_for_state("fail")
    assert (failure.code, failure.reason) == (-5, TOLD)
    desk.cloud.wait_for_version("1.0.0", since=desk.cloud.messages.index(failure))
    assert not any(desk.board.head("B"))
    assert desk.board.environment()["boot_slot"] == "A"
    session = desk.board.json("status")["session"]
    assert (session["state"], session["reason"]) == ("failed", TOLD)
    assert TOLD in desk.board.run("history").stdout
    assert desk.board.json("offers")["offers"][0]["failures"] == 0
    assert ", and cancelled; taken again in 3" in desk.board.run("offers").stdout
    assert len(desk.bucket.begins) == 1
    assert desk.violations() == []


@pytest.mark.root
def test_it_ends_a_download(desk: Desk) -> None:
    """One sentence, exit code 0; the cloud's task fails with the reason, and the slot is blank."""
    done = desk.board.run("cancel", "--reason", WHY)
    assert (done.returncode, done.stdout) == (0, "the install of version 2.0.0 is cancelled\n")
    assert_cancelled(desk)
    assert desk.states[-1] == "failed"
    again = desk.board.run("cancel")
    assert (again.returncode, again.stdout) == (6, "")
    assert again.stderr.startswith("updater: nothing is being installed")


@pytest.mark.root
def test_a_kill_right_after_it_resumes_nothing(desk: Desk) -> None:
    """The next start has nothing to go on with, and tells what may not have been heard."""
    assert desk.board.json("cancel", "--reason", WHY)["version"] == "2.0.0"
    desk.kill()
    desk.hurry()
    desk.start()
    assert_cancelled(desk)


@pytest.mark.root
def test_it_works_offline(desk: Desk) -> None:
    """The report is owed until there is a link again."""
    desk.lose_broker()
    desk.agent.wait_for_log("cloud: ")
    assert desk.board.run("cancel", "--reason", WHY).returncode == 0
    assert not any(desk.board.head("B"))
    desk.restore_broker()
    assert_cancelled(desk)


@pytest.mark.root
def test_it_needs_no_agent(desk: Desk) -> None:
    """The journal is told, and the next agent goes on with nothing."""
    desk.kill()
    done = desk.board.run("cancel", "--reason", WHY)
    assert (done.returncode, done.stdout) == (0, "the install of version 2.0.0 is cancelled\n")
    desk.hurry()
    desk.start()
    assert_cancelled(desk)


@pytest.mark.root
def test_it_ends_what_a_person_installs(image: Image, tmp_path: Path) -> None:
    """Whoever waits for that install hears of it, with exit code 24; the cloud does not."""
    with Desk(tmp_path, image) as desk:
        desk.start()
        desk.cloud.wait_for_version("1.0.0")
        desk.bucket.put_object("image", image.path)
        desk.bucket.is_stalled = True
        words = ["--md5", image.md5, "--size", image.size_bytes, "--firmware-version", "2.0.0"]
        with desk.board.start("install", desk.bucket.url("image"), *words) as waiting:
            desk.agent.wait_until(lambda: "progress" in desk.board.json("status"), "an install")
            assert desk.board.run("cancel", "--reason", WHY).returncode == 0
            _out, err = waiting.communicate(timeout=20)
        assert waiting.returncode == 24
        assert err.startswith(f"updater: {TOLD}\n")
        assert [message.type for message in desk.cloud.messages] == ["report_version"] * len(
            desk.cloud.messages
        )


@pytest.mark.root
def test_after_the_activation_it_is_too_late(image: Image, tmp_path: Path) -> None:
    """Exit code 6, and what to do instead, before the reboot and after it."""
    with Desk(tmp_path, image, health="link = true") as desk:
        desk.start()
        desk.cloud.wait_for_version("1.0.0")
        desk.offer()
        desk.agent.wait_until(desk.board.rebooted.exists, "a reboot", 60)
        said = desk.board.run("cancel")
        assert (said.returncode, said.stdout) == (6, "")
        assert "boots next, on trial; once it runs: updater rollback" in said.stderr
        assert desk.shut_down() == "B"
        desk.lose_broker()
        desk.start()
        desk.agent.wait_for_control()
        for command in (["cancel"], ["--json", "cancel"]):
            said = desk.board.run(*command)
            assert said.returncode == 6
            assert "to leave it: updater rollback" in said.stdout + said.stderr
        assert desk.is_on_trial


@pytest.mark.parametrize("reason", ["x" * 101, "ä", "a\nb"])
def test_a_reason_that_cannot_be_told_is_a_mistake(workshop: Workshop, reason: str) -> None:
    """Exit code 2, before anybody is asked."""
    done = workshop.run("cancel", "--reason", reason)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a reason is at most 100 printable characters of ASCII" in done.stderr


def test_there_may_be_nothing_to_cancel(workshop: Workshop) -> None:
    """Exit code 6; without a journal nobody knows, and it is 20."""
    done = workshop.run("cancel")
    assert (done.returncode, done.stdout) == (6, "")
    assert "nothing was changed" in done.stderr
    (workshop.folder / "state/journal.sqlite").unlink()
    (workshop.folder / "state/journal.sqlite").mkdir()
    assert workshop.json("cancel")["exit_code"] == 20
