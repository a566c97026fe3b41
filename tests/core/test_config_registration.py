# SPDX-License-Identifier: MIT
"""The keys of a registration: what belongs together, and what is safe unless somebody says so."""

import pytest

from updater.core.config import parse_config
from updater.core.errors import ConfigError
from updater.core.gateway import parse_gateway

CLOUD = "[cloud]\nhost = 'h'\nproduct_id = 'P'\ndevice_name = 'D'\n"
PRODUCT = CLOUD + "product_secret_file = '/etc/product'\n"
FILE = "secret_file = '/var/lib/updater/secret'\n"


def test_nobody_registers_unasked() -> None:
    """Without a product secret nothing else is looked at; with one, TLS and a real host are set."""
    assert parse_config(CLOUD, "f").cloud.product_secret_file == ""
    assert parse_config(CLOUD + "registration_url = 'x'", "f").cloud.registration_url == "x"
    cloud = parse_config(PRODUCT + FILE, "f").cloud
    assert cloud.product_secret_file == "/etc/product"
    assert parse_gateway(cloud.registration_url).is_tls
    assert cloud.registration_ca_file == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "needs an auth by device secret, and the path of a file, cloud.secret_file"),
        ("secret_file = 'credential'", "the path of a file, cloud.secret_file"),
        (FILE + "auth = 'password'", "needs an auth by device secret"),
        (FILE + "auth = 'none'", "needs an auth by device secret"),
        (FILE + "registration_url = 'gateway'", "cloud.registration_url: 'gateway' is not like"),
        (FILE + "registration_url = 'https://h:0/x'", "has a port that does not exist"),
        (FILE + "registration_url = 'http://h/x'", "must be https, or needs cloud.allow_plaintext"),
    ],
)
def test_a_registration_that_would_end_in_nothing_is_refused(more: str, said: str) -> None:
    """Before the device has been shipped, not when the cloud has answered."""
    with pytest.raises(ConfigError, match=r"^updater\.toml: cloud\.") as caught:
        parse_config(PRODUCT + more, "updater.toml")
    assert said in str(caught.value)


def test_plaintext_is_taken_if_it_is_allowed() -> None:
    """The same key that lets MQTT go without TLS."""
    text = PRODUCT + FILE + "registration_url = 'http://h/x'\nallow_plaintext = true"
    assert parse_config(text, "f").cloud.registration_url == "http://h/x"
