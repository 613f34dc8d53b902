"""Requests over http and https: which addresses are asked, and what a failure means in words.

CONVNEXT_OFFLINE=1 (or HF_HUB_OFFLINE=1) forbids network access. Proxies are those of the environment (https_proxy,
http_proxy, no_proxy); requests to this machine go past them.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import string
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import Literal
from urllib.error import URLError
from urllib.parse import quote, urldefrag, urljoin, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from convnext.core.errors import UserError

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


class BadRedirect(Exception):
    """A redirect that is not followed, and why: a sentence without a full stop."""


class NoAnswer(Exception):
    """Why a server gave no answer, in words without a full stop."""

    def __init__(self, reason: str, kind: Literal["certificate", "unreachable", "cut"]) -> None:
        """kind: certificate: it is not trusted. unreachable: no connection came about. cut: the connection broke."""
        super().__init__(reason)
        self.kind = kind


class NotReached(UserError):
    """No address gives a file now, for want of a network or of an answer; another time one may."""

    def __init__(self, message: str, reason: str) -> None:
        """reason: why, in words without a full stop."""
        super().__init__(message)
        self.reason = reason


def offline() -> str:
    """The environment variable that forbids network access (CONVNEXT_OFFLINE or HF_HUB_OFFLINE), "" where none does."""
    names = ("CONVNEXT_OFFLINE", "HF_HUB_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")), "")


def without_query(url: str) -> str:
    """An address without what follows ? or #: often a signature, which changes at each visit."""
    return re.split("[?#]", url, maxsplit=1)[0]


def shown(url: str) -> str:
    """An address for messages: without password and signature, without control characters, at most 200 characters."""
    return repr(re.sub(r"//[^/?#]*@", "//", without_query(url)))[1:-1][:200]


def objection(url: str, *, http: Literal["nowhere", "this machine", "everywhere"]) -> str:
    """Why an address is not asked, as the rest of a sentence ("is not https"); "" where nothing is wrong with it.

    http: where plain http is accepted; https always is.
    """
    if not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        return "has a character that addresses write as %20 or the like"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is not an address"
    if parts.username is not None:
        return "has a user name in it"
    if port == 0 or not (_HOST.fullmatch(host) or _is_address(host)):
        return "is not an address"
    plain = parts.scheme == "http" and (http == "everywhere" or (http == "this machine" and is_loopback(host)))
    return "" if parts.scheme == "https" or plain else "is not https"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def ask(url: str, headers: Mapping[str, str], timeout: float) -> HTTPResponse:
    """The answer to a GET request, whatever its status; redirects are not followed.

    timeout: seconds without a byte until the connection counts as cut. Raises NoAnswer.
    """
    host = urlsplit(url).hostname or ""
    secure = urlsplit(url).scheme == "https"
    opener = OpenerDirector()  # a bare one, which neither follows redirects nor knows file: and ftp:
    opener.add_handler(ProxyHandler({} if is_loopback(host) else None))  # None: those of the environment
    opener.add_handler(HTTPSHandler(context=ssl.create_default_context()) if secure else HTTPHandler())
    try:
        return opener.open(Request(url, headers=dict(headers)), timeout=timeout)
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise NoAnswer(
                f"the certificate of {host} is not trusted ({error.reason.verify_message}). Check this machine's "
                "clock; behind a company's proxy, set SSL_CERT_FILE to its certificates",
                "certificate",
            ) from None
        if isinstance(error.reason, socket.gaierror):
            raise NoAnswer(f"the name {host} is not found: there seems to be no network", "unreachable") from None
        raise NoAnswer(f"{host} is not reached ({in_words(error.reason)})", "unreachable") from None
    except (OSError, HTTPException) as error:
        raise NoAnswer(f"{host} did not answer ({in_words(error)})", "cut") from None


def ask_following(
    url: str, headers: Mapping[str, str], timeout: float, *, http: Literal["this machine", "everywhere"], most: int = 5
) -> HTTPResponse:
    """The answer to a GET request, redirects followed as far as is safe: never from https to http, and never from a
    server elsewhere to this machine, which would make it ask its own services.

    http: where plain http is accepted. most: redirects that are followed. Raises NoAnswer, and BadRedirect.
    """
    start = url
    for _ in range(most + 1):
        response = ask(url, headers, timeout)
        if response.status not in (301, 302, 303, 307, 308):
            return response
        with response:
            location = quote(response.headers.get("Location", ""), safe=string.punctuation, encoding="latin-1")
        try:
            target = urldefrag(urljoin(url, location))[0]
        except ValueError:
            target = location
        if problem := _redirect_problem(url, target, http=http):
            raise BadRedirect(f"{shown(url)} redirects to {shown(target)}, which {problem}")
        url = target
    raise BadRedirect(f"{shown(start)} redirects more than {most} times")


def _redirect_problem(url: str, target: str, *, http: Literal["this machine", "everywhere"]) -> str:
    if problem := objection(target, http="nowhere" if url.startswith("https:") else http):
        return problem
    hosts = [urlsplit(address).hostname or "" for address in (url, target)]
    return "is this machine" if is_loopback(hosts[1]) and not is_loopback(hosts[0]) else ""


def in_words(error: BaseException | str) -> str:
    """A system's error in a few words, without control characters."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return repr(text)[1:-1][:120]
