# SPDX-License-Identifier: MIT
"""What happens in each life-cycle, after the device has reported that version 1.0.0 runs."""

import time

from sim.audit import said
from sim.tap import Packet
from sim.task import Terms

from conformance.desk import Desk
from conformance.hasty import MINUTE_S

GARBAGE = [
    b"", b"{", b"\xff\xfe", b"[" * 10_000, b'"x"', b"x" * 20_000, b'{"type": NaN}',
    b'{"type": "update_firmware", "version": "9.9.9"}', b'{"type": "report_version_rsp"}',
    b'{"type": "update_firmware", "version": "9.9.9", "url": "https://h/f", "file_size": 1.5, '
    b'"md5sum": "00000000000000000000000000000000"}',
]  # fmt: skip
UNKNOWN = [b"{}", b'{"type": "cancel", "version": "2.0.0"}', b'{"type": 7}']


# --- the firmware ------------------------------------------------------------------


def nothing_special(desk: Desk) -> None:
    desk.offer()
    assert desk.reboot() == "B"


def numbered(desk: Desk) -> None:
    desk.offer(task_id=123456, fw_type="mcu", user_defined="x")
    assert desk.reboot() == "B"


def wrong_digest(desk: Desk) -> None:
    desk.offer_slowly(md5sum="0" * 32)
    desk.hurry()
    after_the_fail(desk)
    assert percents(desk)[-1] == 100
    assert not desk.board.has_image("B")


def percents(desk: Desk) -> list[int]:
    """Return every per cent that the device has said, in order."""
    words = [each for packet in desk.tap.packets if (each := said(packet))]
    return [int(m.report["progress"]["percent"]) for m in words if m.word == "downloading"]


def foreign(desk: Desk) -> None:
    desk.offer(fw_type="modem")
    desk.cloud.wait_for_state("fail")
    assert desk.bucket.served == []
    assert not desk.board.has_image("B")


def foreign_and_cut(desk: Desk) -> None:
    lost: list[Packet] = []

    def drops(packet: Packet) -> bool:
        if b'"fail"' in packet.payload:
            lost.append(packet)
            return True
        return False

    desk.tap.drops = drops
    desk.offer(fw_type="modem")
    desk.agent.wait_until(lambda: bool(lost), "a refusal")
    desk.kill()
    desk.cloud.end_task()
    desk.tap.drops = None
    desk.start()
    desk.cloud.wait_for_state("fail")


def running_already(desk: Desk) -> None:
    before = desk.cloud.mark()
    desk.offer("1.0.0")
    desk.cloud.wait_for_version("1.0.0", since=before)
    assert desk.bucket.served == []


def after_the_fail(desk: Desk) -> None:
    """Wait until the device has failed and reports what it runs."""
    failure = desk.cloud.wait_for_state("fail")
    desk.cloud.wait_for_version("1.0.0", since=desk.cloud.messages.index(failure))


# --- its URL, and the server ---------------------------------------------------------------------


def expired_at_once(desk: Desk) -> None:
    desk.bucket.lifetime_s = 0
    desk.offer()
    desk.agent.wait_until(lambda: desk.bucket.refused == 1, "a refusal")
    desk.bucket.lifetime_s = 3600
    assert desk.reboot() == "B"
    assert desk.bucket.refused == 1


def expired_on_the_way(desk: Desk) -> None:
    desk.bucket.lifetime_s = 3
    desk.offer_slowly()
    desk.bucket.is_stalled = True
    time.sleep(desk.bucket.lifetime_s)
    desk.bucket.lifetime_s = 3600
    desk.hurry()
    desk.bucket.cut()
    assert desk.reboot() == "B"
    assert desk.bucket.refused >= 1
    assert desk.bucket.begins[-1] > 0


def removed(desk: Desk) -> None:
    desk.bucket.lifetime_s = 0
    desk.offer()
    desk.agent.wait_until(lambda: desk.bucket.refused == 1, "a refusal")
    desk.bucket.files.clear()
    desk.bucket.lifetime_s = 3600
    after_the_fail(desk)


def ailing(desk: Desk) -> None:
    desk.offer_slowly()
    files = dict(desk.bucket.files)
    desk.bucket.put(dict.fromkeys(files, 503))
    asked = len(desk.bucket.asked)
    desk.bucket.cut()
    desk.agent.wait_until(lambda: len(desk.bucket.asked) > asked + 1, "more than one try")
    desk.bucket.put(files)
    desk.hurry()
    assert desk.reboot() == "B"
    assert desk.bucket.begins[-1] > 0


def dead_and_back(desk: Desk) -> None:
    desk.offer_slowly()
    desk.bucket.die()
    desk.hurry()
    time.sleep(1)
    desk.bucket.revive()
    assert desk.reboot() == "B"
    assert desk.bucket.begins[-1] > 0


# --- the cloud -----------------------------------------------------------------------------------


def pushed_again(desk: Desk) -> None:
    desk.offer_slowly()
    for _ in range(3):
        desk.cloud.push()
    desk.hurry()
    assert desk.reboot() == "B"
    assert len(desk.bucket.begins) == 1


def offered_while_off(desk: Desk) -> None:
    desk.kill()
    desk.offer()
    desk.start()
    assert desk.reboot() == "B"
    assert desk.cloud.pushes == 2


def renumbered(desk: Desk) -> None:
    desk.offer_slowly(task_id=1)
    desk.offer(task_id=2)
    desk.hurry()
    assert desk.reboot() == "B"
    assert desk.cloud.wait_for_state("done").body["report"]["task_id"] == 2
    assert len(desk.bucket.begins) == 1


def superseded(desk: Desk) -> None:
    desk.offer_slowly("1.9.0", md5sum="1" * 32)
    desk.offer("2.0.0")
    desk.hurry()
    assert desk.reboot() == "B"
    assert "superseded" in desk.cloud.wait_for_state("fail").reason


def renamed(desk: Desk) -> None:
    desk.offer_slowly("1.9.0")
    desk.offer("2.0.0")
    desk.hurry()
    assert desk.reboot() == "B"
    assert desk.bucket.begins == [0, 0]


def cancelled(desk: Desk) -> None:
    desk.offer_slowly()
    desk.cloud.end_task()
    before = len(desk.tap.packets)
    desk.hurry()
    desk.agent.wait_until(desk.board.rebooted.exists, "a reboot")
    downlink = [each.kind for each in desk.tap.packets[before:] if not each.is_uplink]
    assert "PUBLISH" not in downlink
    assert desk.reboot() == "B"
    desk.cloud.wait_for_version("2.0.0")
    assert "done" in [message.state for message in desk.cloud.ignored]


def timed_out(desk: Desk) -> None:
    terms = Terms(timeout_s=1.5, retries=1, retry_interval_s=0.5)
    task = desk.offer_slowly(terms=terms)
    desk.bucket.is_stalled = True
    desk.agent.wait_until(lambda: desk.cloud.pushes == 2, "a retry")
    desk.hurry()
    assert desk.reboot() == "B"
    assert [state.value for state in task.states].count("failed") == 1


def garbage_between(desk: Desk) -> None:
    desk.offer_slowly()
    for payload in [*GARBAGE, *UNKNOWN]:
        desk.cloud.send(payload)
    desk.agent.wait_until(
        lambda: desk.agent.log.count("message ignored: ") == len(GARBAGE), "a line for each"
    )
    desk.hurry()
    assert desk.reboot() == "B"


def nobody_answers(desk: Desk) -> None:
    since = desk.cloud.mark()
    desk.kill()
    desk.cloud.result_code = None
    desk.start()
    desk.agent.wait_until(lambda: len(desk.cloud.messages) == since + 2, "a second report")
    desk.cloud.result_code = "0"
    nothing_special(desk)


# --- the broker, and the device ------------------------------------------------------------------


def broker_restarted(desk: Desk) -> None:
    desk.offer_slowly()
    desk.lose_broker()
    desk.agent.wait_for_log("cloud: ")
    before = desk.bucket.sent_bytes
    desk.agent.wait_until(lambda: desk.bucket.sent_bytes > before, "more of the image")
    desk.restore_broker()
    desk.hurry()
    assert desk.reboot() == "B"


def broker_gone_until_after_the_trial(desk: Desk) -> None:
    desk.offer()
    assert desk.shut_down() == "B"
    desk.lose_broker()
    desk.start()
    desk.agent.wait_until(lambda: not desk.is_on_trial, "the end of the trial")
    desk.kill()
    desk.restore_broker()
    desk.start()


def long_trial(desk: Desk) -> None:
    task = desk.offer(terms=Terms(timeout_s=2 * MINUTE_S))
    desk.agent.wait_until(desk.board.rebooted.exists, "a reboot")
    (desk.board.folder / "healthy").unlink()
    assert desk.reboot() == "B"
    time.sleep(2.5 * MINUTE_S)
    assert desk.is_on_trial
    assert task.is_open
    (desk.board.folder / "healthy").touch()


def broker_gone_in_the_trial(desk: Desk) -> None:
    desk.offer()
    assert desk.shut_down() == "B"
    desk.lose_broker()
    desk.start()
    desk.agent.wait_for_log("cloud: ")
    time.sleep(1)
    assert desk.is_on_trial
    desk.restore_broker()


def puback_lost(desk: Desk) -> None:
    desk.offer()
    assert desk.shut_down() == "B"
    desk.tap.drops = lambda packet: packet.kind == "PUBACK" and not desk.is_on_trial
    desk.start()
    desk.cloud.wait_for_state("done")
    time.sleep(0.5)
    desk.lose_broker()
    desk.tap.drops = None
    desk.restore_broker()
    desk.cloud.wait_for_version("2.0.0")
    words = [each.word for packet in desk.tap.packets if (each := said(packet))]
    assert words.count("done") == 2


def puback_of_fail_lost(desk: Desk) -> None:
    desk.tap.drops = lambda packet: packet.kind == "PUBACK"
    desk.offer(md5sum="0" * 32)
    desk.cloud.wait_for_state("fail")
    desk.kill()
    before = desk.cloud.mark()
    desk.tap.drops = None
    desk.start()
    assert desk.cloud.wait_for_state("fail", since=before).code == -4
    desk.cloud.wait_for_version("1.0.0", since=before)


def killed_on_the_way(desk: Desk) -> None:
    desk.offer_slowly()
    desk.kill()
    desk.hurry()
    desk.start()
    assert desk.reboot() == "B"
