"""Certificates and folders: what a certificate says, what is offered where, and that moving a file is all that trust takes.

Certificates are made by the package cryptography, another implementation than the one that reads them here.
"""

import asyncio
import datetime
import random
import threading

import pytest

from bifrost.core.config_rules import Endpoint
from bifrost.core.config_sections import OpcUaConfig
from bifrost.core.errors import ConfigError
from bifrost.opcua.certificate import certificate_der, key_fits, parse_certificate
from bifrost.opcua.security import Pki, access_of, application_uri, certificate_days

x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402 (skipped above where it is missing)
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402 (likewise)

FROM = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def make(
    subject="UaExpert",
    uri="urn:pc:expert",
    until=datetime.timedelta(days=365),
    organization=None,
    extensions=True,
    start=FROM,
    key=None,
):
    key = key or ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]
    if organization:
        names.append(x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization))
    name = x509.Name(names)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), start, start + until)
    if extensions:
        others = [x509.DNSName("pc.example"), x509.UniformResourceIdentifier(uri)] if uri else [x509.DNSName("pc")]
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return builder.sign(key, hashes.SHA256())


def der(**options):
    return make(**options).public_bytes(serialization.Encoding.DER)


def key_der(key, form=serialization.PrivateFormat.TraditionalOpenSSL, encoding=serialization.Encoding.DER):
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def pair(**options):
    """A certificate and its key as the server has them: RSA, both DER."""
    key = rsa.generate_private_key(65_537, 2_048)
    return der(key=key, **options), key_der(key)


@pytest.fixture
def pki(tmp_path):
    made = Pki(str(tmp_path))
    made.prepare()
    return made


# ---- certificates


def test_certificate_says_who_it_is_for_and_how_long():
    certificate = make(organization="Example AG")
    found = parse_certificate(certificate.public_bytes(serialization.Encoding.DER))
    assert found.subject == "UaExpert (Example AG)"
    assert (found.uri, found.hosts) == ("urn:pc:expert", ("pc.example",))
    assert (found.not_before, found.not_after) == (FROM, FROM + datetime.timedelta(days=365))
    assert found.thumbprint == certificate.fingerprint(hashes.SHA1()).hex()  # what the standard names them by
    assert found.is_self_signed


def test_time_beyond_2050_is_read():
    assert parse_certificate(der(until=datetime.timedelta(days=365 * 40))).not_after.year == 2065


def test_certificate_without_extensions_has_no_uri():
    assert parse_certificate(der(extensions=False)).uri == ""


def test_pem_is_taken_too():
    certificate = make()
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    assert certificate_der(pem) == certificate.public_bytes(serialization.Encoding.DER)


def test_any_bytes_are_a_certificate_or_refused():
    whole = der()
    chance = random.Random(1)
    for _ in range(2_000):
        torn = bytearray(whole[: chance.randrange(len(whole) + 1)])
        for _ in range(chance.randrange(4)):
            if torn:
                torn[chance.randrange(len(torn))] = chance.randrange(256)
        try:
            parse_certificate(bytes(torn))
        except ValueError:
            continue


# ---- folders


def test_own_certificate_is_made_beside_the_loop(pki):
    went_on = threading.Event()

    def make():
        assert went_on.wait(30), "the loop stood still while the key was made"
        return pair()

    async def work():
        asyncio.get_running_loop().call_soon(went_on.set)
        return await pki.own(make)

    assert asyncio.run(work()) == pki.load_own()


def test_own_certificate_is_made_once_and_its_key_is_private(pki):
    made = pair()
    assert asyncio.run(pki.own(lambda: made)) == made
    assert asyncio.run(pki.own(lambda: pytest.fail("made twice"))) == made
    assert pki.own_key.stat().st_mode & 0o777 == 0o600
    assert pki.root.stat().st_mode & 0o077 == 0


def test_half_of_the_own_pair_is_refused(pki):
    pki.store_own(der(), b"key")
    pki.own_key.unlink()
    with pytest.raises(ConfigError, match=r"key\.der is not"):
        pki.load_own()


@pytest.mark.parametrize("content", [b"no certificate", der(uri="")])
def test_own_certificate_that_can_not_serve_is_refused(pki, content):
    pki.store_own(content, b"key")
    with pytest.raises(ConfigError, match=r"certificate\.der"):
        pki.load_own()


@pytest.mark.parametrize("content", [b"", b"no key", der(), key_der(rsa.generate_private_key(65_537, 2_048))])
def test_key_that_is_not_the_certificates_is_refused_with_what_to_do(pki, content):
    """The library would serve with it, and no client could ever connect."""
    certificate, _ = pair()
    pki.store_own(certificate, content)
    with pytest.raises(ConfigError, match=r"key\.der: .*; move .*own away and restart"):
        pki.load_own()


@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
@pytest.mark.parametrize("encoding", ["DER", "PEM"])
def test_key_of_the_certificate_is_known_in_every_form(form, encoding):
    key = rsa.generate_private_key(65_537, 2_048)
    content = key_der(key, getattr(serialization.PrivateFormat, form), getattr(serialization.Encoding, encoding))
    assert key_fits(der(key=key), content)
    assert not key_fits(der(), content)


@pytest.mark.parametrize("year", [1970, 2025, 2026, 2040])
def test_own_certificate_is_valid_for_years_whatever_the_clock_was(year):
    """A board without a battery makes it in 1970; its clients live later."""
    now, sold = (datetime.datetime(one, 1, 1, tzinfo=datetime.UTC) for one in (year, 2026))
    until = now + datetime.timedelta(days=certificate_days(now))
    assert datetime.timedelta(days=3_649) <= until - max(now, sold) <= datetime.timedelta(days=3_650)


def test_certificate_that_is_trusted_is_no_longer_among_the_rejected(pki):
    content, other = der(), der(subject="other")
    for name, body in (("A.der", content), ("B.der", other), ("notes.txt", b"ask Bob"), (".unfinished", content)):
        (pki.folder("rejected") / name).write_bytes(body)
    assert pki.count("rejected") == 3
    pki.forget_rejected(parse_certificate(content))
    assert sorted(path.name for path in pki.folder("rejected").iterdir() if path.name != ".unfinished") == [
        "B.der",
        "notes.txt",
    ]


def test_rejected_certificate_is_trusted_by_its_thumbprint(pki):
    content = der()
    thumbprint = parse_certificate(content).thumbprint
    (pki.folder("rejected") / f"{thumbprint}.der").write_bytes(content)
    listed = pki.find(thumbprint[:6], ("rejected",))
    pki.move(listed, "trusted")
    assert [(one.folder, one.certificate.subject) for one in pki.iterate()] == [("trusted", "UaExpert")]


def test_certificate_is_added_from_a_file(pki, tmp_path):
    source = tmp_path / "client.pem"
    source.write_bytes(make().public_bytes(serialization.Encoding.PEM))
    listed = pki.add(source, "trusted")
    assert listed.path.parent == pki.folder("trusted")
    assert certificate_der(listed.path.read_bytes()) == listed.path.read_bytes()


def test_word_that_means_none_or_two_is_refused(pki):
    for index in range(2):
        (pki.folder("rejected") / f"{index}.der").write_bytes(der(subject="same"))
    with pytest.raises(ValueError, match="means 2 certificates"):
        pki.find("same")
    with pytest.raises(ValueError, match="no certificate 'other'"):
        pki.find("other")


def test_file_that_is_none_is_listed_as_such(pki):
    (pki.folder("trusted") / "readme.txt").write_text("hello")
    assert [one.certificate for one in pki.iterate()] == [None]


# ---- access


@pytest.mark.parametrize(
    ("bind", "options", "policies", "is_anonymous", "warnings"),
    [
        ("127.0.0.1", {}, ["None", "Basic256Sha256"], True, 0),
        ("::1", {"anonymous": False}, ["None", "Basic256Sha256"], False, 0),
        ("0.0.0.0", {}, ["Basic256Sha256"], False, 0),
        ("10.0.0.1", {"insecure": ("None",)}, ["None", "Basic256Sha256"], False, 1),
        ("10.0.0.1", {"insecure": ("anonymous",)}, ["Basic256Sha256"], False, 0),
        ("10.0.0.1", {"insecure": ("anonymous",), "anonymous": True}, ["Basic256Sha256"], True, 1),
    ],
)
def test_what_is_open_is_said_by_name(bind, options, policies, is_anonymous, warnings):
    access = access_of(OpcUaConfig(bind=Endpoint(bind, 4840), **options))
    assert [name for name in access.policies if not name.startswith("Aes")] == policies
    assert (access.is_anonymous, len(access.warnings)) == (is_anonymous, warnings)


def test_application_uri_has_no_characters_that_a_uri_has_not():
    assert application_uri("line 3", "pc.plant") == "urn:pc.plant:bifrost:line-3"
