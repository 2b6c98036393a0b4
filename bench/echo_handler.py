# SPDX-License-Identifier: Apache-2.0
"""Sends each payload on as it came."""


def handle(payload):
    return payload
