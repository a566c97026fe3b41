# SPDX-License-Identifier: MIT
"""``updater offers``: what has failed here, when it is tried again, and how to forget that."""

import argparse

from updater.answer import Answer
from updater.assembly import open_device, open_locked_device
from updater.commands import ask
from updater.retries import listed_alone
from updater.settings import read_settings
from updater.texts import offers_text


def listed(options: argparse.Namespace) -> Answer:
    """Say which offers have failed."""
    answer = ask(options, "GetOffers")
    offers: object
    if answer is not None:
        offers = answer["offers"]
    else:
        settings, board = read_settings(options.config)
        with open_device(settings, board) as device:
            offers = listed_alone(device)
    return Answer({"offers": offers}, offers_text(offers))


def clear(options: argparse.Namespace) -> Answer:
    """Forget all that has failed; by the running agent, so that an offer that it keeps begins."""
    answer = ask(options, "ClearOffers")
    if answer is not None:
        cleared = answer["cleared"]
    else:
        with open_locked_device(options.config) as device:
            cleared = len(device.journal.failures())
            device.journal.forgive()
    return Answer({"cleared": cleared}, f"forgotten: {cleared}")
