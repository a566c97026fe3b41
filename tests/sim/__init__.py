# SPDX-License-Identifier: MIT
"""A cloud in small: a real broker, a real HTTP server, and the cloud's side of the conversation."""
