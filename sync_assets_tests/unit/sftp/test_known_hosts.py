"""The known_hosts file: which lines mean a server, and which keys they trust."""

import subprocess
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.sftp.known_hosts import HostKey, known_keys
from sync_assets_tests.support.openssh import KEY_TYPES, make_key, public, sshd

KEYS = [paramiko.ECDSAKey.generate() for _ in range(3)]
LINE_ENDS = [f"{key.get_name()} {key.get_base64()}" for key in KEYS]
A, B, C = (HostKey(key.get_name(), key.asbytes()) for key in KEYS)
ONE, TWO, THREE = LINE_ENDS


def trusted(text: str, host: str = "sftp.example", port: int = 22) -> list[HostKey]:
    return list(known_keys(text, host, port).trusted)


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("sftp.example", "sftp.example", 22),
        ("SFTP.Example", "sftp.EXAMPLE", 22),
        ("other,sftp.example,10.0.0.1", "sftp.example", 22),
        ("[sftp.example]:2222", "sftp.example", 2222),
        ("*.example", "sftp.example", 22),
        ("sft?.example", "sftp.example", 22),
        ("[*.example]:2222", "sftp.example", 2222),
        ("*", "sftp.example", 2222),
        ("::1", "::1", 22),
        ("[::1]:2222", "::1", 2222),
        ("*.example,!dev.example", "sftp.example", 22),
    ],
)
def test_a_line_means_the_server(names: str, host: str, port: int):
    assert trusted(f"{names} {ONE}\n", host, port) == [A]


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("sftp.example", "sftp.example", 2222),  # another port is another server
        ("[sftp.example]:2222", "sftp.example", 22),
        ("[sftp.example]:2222", "sftp.example", 2223),
        ("sftp.example", "dev.sftp.example", 22),
        ("sftp.example", "sftpxexample", 22),
        ("[sftp]:22", "s", 22),  # no set of characters
        ("*.example,!sftp.example", "sftp.example", 22),
        ("!sftp.example,*", "sftp.example", 22),
        ("!sftp.example", "dev.example", 22),
        ("# sftp.example", "sftp.example", 22),
    ],
)
def test_a_line_means_another_server(names: str, host: str, port: int):
    assert trusted(f"{names} {ONE}\n", host, port) == []


@pytest.mark.parametrize(("host", "port", "name"), [("a.example", 22, "a.example"), ("b", 2222, "[b]:2222")])
def test_names_may_be_hashed(host: str, port: int, name: str):
    text = f"{paramiko.HostKeys.hash_host(name)} {ONE}\n"
    assert trusted(text, host, port) == [A]
    assert trusted(text, "other", port) == []


def test_hashed_files_of_ssh_keygen_are_understood(tmp_path: Path):
    sshd()
    file = tmp_path / "known_hosts"
    file.write_text(f"sftp.example,10.0.0.1 {ONE}\n[sftp.example]:2222 {TWO}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "sftp.example" not in file.read_text()
    assert trusted(file.read_text()) == [A]
    assert trusted(file.read_text(), "10.0.0.1") == [A]
    assert trusted(file.read_text(), port=2222) == [B]


def test_comments_blank_lines_blanks_and_line_ends_do_not_matter():
    assert trusted(f"\n# sftp.example {TWO}\r\n\t sftp.example \t {ONE.replace(' ', '   ')}  \r\n\n") == [A]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_only_a_line_feed_ends_a_line_as_for_openssh(separator: str):
    assert trusted(f"# of the old server{separator}sftp.example {ONE}\nsftp.example {TWO}\n") == [B]
    assert trusted(f"other{separator}sftp.example {ONE}\n") == []
    assert trusted(f"sftp.example\xa0{ONE}\nsftp.example\u2003{ONE}\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "sftp.example",
        "sftp.example ecdsa-sha2-nistp256",
        "sftp.example ecdsa-sha2-nistp256 not+base64",
        "sftp.example ecdsa-sha2-nistp256 AAAA",
        f"sftp.example ssh-ed25519 {KEYS[0].get_base64()}",  # the key says another type
        f"|1|salt {ONE}",
        f"|1|!|! {ONE}",
        f"|2|c2FsdA==|c2FsdA== {ONE}",
        f"@cert-authority *.example {ONE}",  # for certificates, which we do not ask for
        f"@unheard-of *.example {ONE}",
    ],
)
def test_lines_that_are_no_key_of_a_server_are_passed_over(line: str):
    assert trusted(f"{line}\nsftp.example {TWO}\n") == [B]


@pytest.mark.parametrize("type_", KEY_TYPES)
def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path, type_: str):
    sshd()
    file = make_key(tmp_path / "key", type_)
    completed = subprocess.run(["ssh-keygen", "-l", "-f", file], check=True, capture_output=True, text=True).stdout
    (key,) = trusted(f"sftp.example {public(file)}\n")
    assert key.fingerprint in completed.split()


@given(st.text(alphabet=st.sampled_from("|1@!*?[]:# \t\n=,ab\u00e4\0"), max_size=60), st.text(max_size=20))
def test_other_lines_of_the_file_do_not_hide_the_good_one(rubbish: str, host: str):
    host = "".join(host.split()).replace(",", "").replace("!", "").replace("|", "").replace("@", "") or "h"
    text = f"{rubbish}\n[{host}]:2222 {ONE}\n"
    if host.startswith("#") or "*" in host or "?" in host:
        return
    assert trusted(text, host, 2222) == [A]
