# SPDX-License-Identifier: MIT
"""A device that registers, as the real program: by hand, and as an agent on its first start."""

import re
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sim.broker import broker
from sim.cloud import DEVICE, Cloud
from sim.gateway import PRODUCT_SECRET, Gateway, answer, certificate
from workshop import Agent, Workshop


class Registering(Workshop):
    """A machine that has its product's secret and none of its own."""

    def __init__(self, folder: Path, gateway: Gateway, port: int = 1) -> None:
        self.secret = folder / "state/device-secret"
        self.product = folder / "product-secret"
        self.product.write_text(f"{PRODUCT_SECRET}\n")
        self.product.chmod(0o600)
        keys = {
            "secret_file": self.secret, "product_secret_file": self.product,
            "registration_url": gateway.url, "registration_ca_file": folder / "tls/ca.pem",
        }  # fmt: skip
        lines = "\n".join(f'{key} = "{value}"' for key, value in keys.items())
        super().__init__(folder, port=port, cloud=lines)
        text = self.config.read_text().replace('auth = "none"', 'auth = "tencent"', 1)
        self.config.write_text(text)

    def has(self, secret: str) -> bool:
        """Tell whether *secret* is stored, for its owner alone."""
        return (
            self.secret.read_text() == f"{secret}\n"
            and stat.S_IMODE(self.secret.stat().st_mode) == 0o600
        )


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(certificate(tmp_path / "tls", "127.0.0.1", "20200101", "20491231")) as serving:
        yield serving


# --- by hand -------------------------------------------------------------------------------------


def test_a_person_registers_a_device_once(tmp_path: Path, gateway: Gateway) -> None:
    """The first time stores the secret, the second refuses, and again asks the cloud."""
    workshop = Registering(tmp_path, gateway)
    done = workshop.run("register")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"device {DEVICE} is registered; its secret is in {workshop.secret}\n"
    secret = gateway.granted[DEVICE]
    assert workshop.has(secret)

    done = workshop.run("register")
    assert done.returncode == 6
    assert f"has a secret already, in {workshop.secret}" in done.stderr
    assert len(gateway.requests) == 1

    done = workshop.run("register", "--again")
    assert done.returncode == 21
    assert "reset the device in the console" in done.stderr
    assert workshop.has(secret)

    gateway.reset()
    said = workshop.json("register", "--again")
    assert said == {"device_name": DEVICE, "secret_file": str(workshop.secret)}
    assert gateway.granted[DEVICE] != secret
    assert workshop.has(gateway.granted[DEVICE])


def test_an_interrupt_loses_no_answer(tmp_path: Path, gateway: Gateway) -> None:
    """Ctrl-C after the question: what the cloud grants is stored, then the command ends."""
    gateway.script = lambda request: [0.7, *gateway.honest(request)]
    workshop = Registering(tmp_path, gateway)
    with workshop.start("register") as process:
        assert gateway.arrived.wait(20)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
        assert process.returncode == 130
    assert err.startswith("updater: interrupted\n")
    assert workshop.has(gateway.granted[DEVICE])


def test_no_output_has_a_secret(tmp_path: Path, gateway: Gateway) -> None:
    """However much is said, on success and on failure, with a product secret for all to read."""
    workshop = Registering(tmp_path, gateway)
    workshop.product.chmod(0o644)
    for _ in range(2):
        done = workshop.run("--verbose", "register", "--again")
        assert "can be read by others" in done.stderr
        for secret in (PRODUCT_SECRET, gateway.granted[DEVICE]):
            assert secret not in done.stdout + done.stderr


def test_a_gateway_that_cannot_be_trusted_gets_nothing(tmp_path: Path, gateway: Gateway) -> None:
    """By the system's CAs the test's own is a stranger: exit code 10, and what is wrong."""
    workshop = Registering(tmp_path, gateway)
    text = workshop.config.read_text()
    workshop.config.write_text(re.sub(r"registration_ca_file.*\n", "", text))
    done = workshop.run("register")
    assert done.returncode == 10
    assert "the server's certificate is refused: self-signed certificate" in done.stderr
    assert gateway.requests == []
    assert not workshop.secret.exists()


def test_a_device_that_was_not_told_how_says_so(tmp_path: Path) -> None:
    """Exit code 3 and the key that is missing."""
    done = Workshop(tmp_path).run("register")
    assert done.returncode == 3
    assert "a device needs cloud.product_secret_file" in done.stderr


# --- as an agent ---------------------------------------------------------------------------------


def test_a_device_gets_in_by_itself(tmp_path: Path, gateway: Gateway) -> None:
    """First start: registered, stored, connected and heard. Next start: nobody is asked again."""
    with broker() as port, Cloud(port) as cloud:
        workshop = Registering(tmp_path, gateway, port)
        for _ in range(2):
            before = cloud.mark()
            with workshop.agent() as agent:
                cloud.wait_for_version("1.0.0", since=before)
                assert workshop.has(gateway.granted[DEVICE])
                assert workshop.json("status")["registering"] is False
                assert agent.end() == 0
                assert PRODUCT_SECRET not in agent.log
                assert gateway.granted[DEVICE] not in agent.log
        assert len(gateway.requests) == 1


def test_the_agent_serves_while_the_gateway_thinks(tmp_path: Path, gateway: Gateway) -> None:
    """A question that nobody answers blocks nothing: the device is asked, and answers at once."""
    gateway.script = lambda _: [60.0]
    workshop = Registering(tmp_path, gateway)
    with workshop.agent() as agent:
        agent.wait_until(gateway.arrived.is_set, "a request")
        status = workshop.json("status")
        assert (status["link"], status["registering"]) == (False, True)
        said = workshop.run("status").stdout
        assert "agent runs, registering: this device has no secret yet\n" in said
        agent.process.kill()


def test_an_end_waits_for_the_answer_that_is_on_its_way(tmp_path: Path, gateway: Gateway) -> None:
    """SIGTERM between question and answer: the secret is stored, then the agent ends orderly."""
    gateway.script = lambda request: [0.7, *gateway.honest(request)]
    workshop = Registering(tmp_path, gateway)
    with workshop.agent() as agent:
        agent.wait_until(gateway.arrived.is_set, "a request")
        assert agent.end() == 0
        assert "Traceback" not in agent.log
    assert workshop.has(gateway.granted[DEVICE])


def test_a_kill_before_the_answer_ends_in_a_sentence(tmp_path: Path, gateway: Gateway) -> None:
    """The cloud has granted what nobody has received: the next start says what to do, and lives."""
    gateway.script = lambda request: [*[60.0 for _ in gateway.honest(request)]]
    workshop = Registering(tmp_path, gateway)
    with workshop.agent() as agent:
        agent.wait_until(lambda: DEVICE in gateway.granted, "a grant")
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    assert not workshop.secret.exists()
    gateway.script = None
    with workshop.agent() as agent:
        agent.wait_for_log("gives its secret only once: reset the device in the console")
        assert workshop.json("status")["agent"] is True
        assert not workshop.secret.exists()
        assert agent.end() == 0


def test_a_gateway_that_recovers_is_found(tmp_path: Path, gateway: Gateway) -> None:
    """One answer that is none, then a good one: the agent tries again by itself."""
    gateway.script = lambda _: [answer({"Error": {"Code": "InternalError", "Message": "busy"}})]
    workshop = Registering(tmp_path, gateway)
    with workshop.agent() as agent:
        agent.wait_for_log("cloud: cannot register: the cloud refuses the registration and says")
        gateway.script = None
        agent.wait_for_log("this device is registered")
        assert workshop.has(gateway.granted[DEVICE])


def test_an_agent_that_waits_for_a_person_sleeps(tmp_path: Path, gateway: Gateway) -> None:
    """Refused for good, it neither spins nor asks again soon."""
    gateway.granted[DEVICE] = "somebody else's"
    workshop = Registering(tmp_path, gateway)
    with workshop.agent() as agent:
        agent.wait_for_log("code 1021")
        time.sleep(0.2)
        before = _waits(agent)
        time.sleep(1.0)
        assert _waits(agent) - before <= 1
    assert len(gateway.requests) == 1


def _waits(agent: Agent) -> int:
    """Return how often the agent's loop has waited so far."""
    text = Path(f"/proc/{agent.pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])
