"""Credentials never pass `redact`; what is none does."""

import fsspec.config
import pytest

from jaxlung.system.urls import Url, is_url, redact, redact_url


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIAABCDEFGHIJKLMNOP:hidden/0123@bucket/films",
        "sftp://me:hidden@host/films: refused",
        "https://host/a.png?X-Amz-Signature=hidden&X-Amz-Date=1 failed",
        "https://host/a.png?sig=hidden",
        "https://hidden@host/a.png: refused",
        "url='git+HTTPS://hidden@host'",
        "s3://hidden@bucket/films",
        "AWSAccessKeyId=AKIAABCDEFGHIJKLMNOP&Signature=hidden",
        "<SecretAccessKey>hidden</SecretAccessKey>",
        "{'aws_secret_access_key': 'hidden', \"token\": \"hidden\"}",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hidden==;Suffix=x",
        "Authorization: Bearer hidden.0123-456",
        "password = hidden",
    ],
)
def test_credentials_are_hidden(text):
    shown = redact(text, {})
    assert "hidden" not in shown and "AKIA" not in shown and "***" in shown


def test_values_of_variables_and_of_fsspecs_configuration_are_hidden(monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"secret": "in-the-config", "anon": "anonymous"})
    environ = {
        "AWS_SECRET_ACCESS_KEY": "in/the+environment",
        "MONKEY": "monkey-value",
        "TOKEN": "s",
    }
    text = "in-the-config anonymous in/the+environment monkey-value s"
    assert redact(text, environ) == "*** anonymous *** monkey-value s"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/films/year=2020/1.png: there is no such object",
        "abfss://films@account.dfs.core.windows.net/1.png",
        "az://films@account.dfs.core.windows.net/1.png",
        "oci://films@namespace/1.png",
        "hdfs://me@host:8020/films: refused by sftp://me@host",
        "https://host:80/me@home/1.png",
        "s3://bucket/film?.png matches no image",
        "3 failed; /home/me/secret films/a.png",
    ],
)
def test_the_rest_stays(text):
    assert redact(text, {}) == text == redact_url(text)


def test_drives_and_paths_are_no_urls():
    assert is_url("s3://bucket") and is_url("memory://a") and Url("S3://b/a").protocol == "s3"
    assert not any(map(is_url, ("C://films", "films//a.png", "/a", "s3:/bucket", "")))
