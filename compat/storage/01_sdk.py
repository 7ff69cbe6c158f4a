# azure-storage-blob, unmodified, as the rest of Microsoft's packages use it: with a
# token, a key and signatures, many requests at once, large files, and hostile names.
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.core import MatchConditions
from azure.identity import EnvironmentCredential
from azure.storage.blob import (
    AccountSasPermissions, BlobBlock, BlobClient, BlobSasPermissions, BlobServiceClient, ContainerClient, ContainerSasPermissions,
    ContentSettings, ResourceTypes, generate_account_sas, generate_blob_sas, generate_container_sas,
)

ARM = "https://management.azure.com"
token = EnvironmentCredential()
headers = {"Authorization": "Bearer " + token.get_token(ARM + "/.default").token}


def arm(method, path, body=None):
    r = requests.request(method, f"{ARM}{path}{'&' if '?' in path else '?'}api-version=2024-04-01", headers=headers, json=body)
    assert r.ok, (path, r.status_code, r.text)
    return r.json()


group = f"/subscriptions/{os.environ['SUBSCRIPTION']}/resourceGroups/{os.environ['GROUP']}"
store = arm("GET", f"{group}/providers/Microsoft.MachineLearningServices/workspaces/main/datastores/workspaceblobstore")["properties"]
account, own = store["accountName"], store["containerName"]
accounts = f"{group}/providers/Microsoft.Storage/storageAccounts/{account}"
keys = {k["keyName"]: k["value"] for k in arm("POST", accounts + "/listKeys")["keys"]}
url = f"https://{account}.blob.core.windows.net"
hour = datetime.now(timezone.utc) + timedelta(hours=1)


def raises(kind, code, call):
    try:
        call()
    except kind as e:
        assert e.error_code == code, (code, e.error_code, e.message)
        return
    raise AssertionError(f"no {kind.__name__} {code}")


def containers(service):
    name = "sdk-" + os.urandom(4).hex()
    box = service.create_container(name, metadata={"team": "vision"})
    raises(ResourceExistsError, "ContainerAlreadyExists", lambda: service.create_container(name))
    assert box.get_container_properties().metadata == {"team": "vision"}
    box.set_container_metadata({"team": "speech"})
    listed = {c.name: c.metadata for c in service.list_containers(include_metadata=True)}
    assert listed[name] == {"team": "speech"} and own in listed, listed
    assert [c.name for page in service.list_containers(results_per_page=1).by_page() for c in page] == sorted(listed)
    return box


def blobs(box):
    b = box.get_blob_client("dir/a b%2Fé.txt")
    assert not b.exists()
    b.upload_blob(b"0123456789", content_settings=ContentSettings(content_type="text/plain", cache_control="no-store"), metadata={"k": "v"})
    raises(ResourceExistsError, "BlobAlreadyExists", lambda: b.upload_blob(b"x"))
    p = b.get_blob_properties()
    assert (p.size, p.metadata, p.content_settings.content_type, p.content_settings.cache_control) == (10, {"k": "v"}, "text/plain", "no-store"), p
    assert bytes(p.content_settings.content_md5).hex() == "781e5e245d69b566979b86e28d23f2c7"
    assert b.download_blob(offset=2, length=3).readall() == b"234" and b.download_blob(validate_content=True).readall() == b"0123456789"
    b.set_blob_metadata({"k": "w"})
    b.set_http_headers(ContentSettings(content_type="text/html"))
    p = b.get_blob_properties()
    assert p.metadata == {"k": "w"} and p.content_settings.content_type == "text/html" and b.download_blob().readall() == b"0123456789"
    raises(ResourceModifiedError, "ConditionNotMet", lambda: b.upload_blob(b"x", overwrite=True, etag="0x0", match_condition=MatchConditions.IfNotModified))
    copy = box.get_blob_client("copy")
    assert copy.start_copy_from_url(b.url)["copy_status"] == "success" and copy.get_blob_properties().copy.status == "success"
    log = box.get_blob_client("log")
    for line in (b"one\n", b"two\n"):
        log.upload_blob(line, blob_type="AppendBlob", length=len(line), overwrite=False) if not log.exists() else log.append_block(line)
    assert log.download_blob().readall() == b"one\ntwo\n"
    raises(HttpResponseError, "NotImplemented", lambda: b.acquire_lease())
    raises(HttpResponseError, "NotImplemented", lambda: b.create_snapshot())
    raises(ResourceNotFoundError, "BlobNotFound", lambda: box.download_blob("none"))
    empty = box.get_blob_client("empty")
    empty.upload_blob(b"")
    assert empty.download_blob().readall() == b"" and empty.get_blob_properties().size == 0
    assert sorted(x.name for x in box.list_blobs()) == ["copy", "dir/a b%2Fé.txt", "empty", "log"]
    assert sorted(x.name for x in box.walk_blobs()) == ["copy", "dir/", "empty", "log"]
    assert [x.metadata for x in box.list_blobs(name_starts_with="dir/", include=["metadata"])] == [{"k": "w"}]
    assert len([r for r in box.delete_blobs("copy", "empty", "none", raise_on_any_failure=False)]) == 3
    assert sorted(x.name for x in box.list_blobs()) == ["dir/a b%2Fé.txt", "log"]


def names(box):
    # Not "..": the client's own HTTP library takes it out of an address before it is sent.
    hostile = ["a//b", "...", "é", "日本語", "💾", "a+b", "a&b=c", "a?b", "a#b", "%", "%25", "a\\b", "'\"<>", "-rf", "~", "dir/", "x" * 1000, "a;b", " a", "a b"]
    for i, name in enumerate(hostile):
        box.upload_blob("n/" + name, str(i))
    for i, name in enumerate(hostile):
        assert box.download_blob("n/" + name).readall() == str(i).encode(), name
    listed = [b.name for b in box.list_blobs(name_starts_with="n/")]
    assert sorted(listed) == sorted("n/" + n for n in hostile), set(listed) ^ {"n/" + n for n in hostile}


def large(box):
    chunk = os.urandom(1 << 20)
    content = chunk * 70
    b = box.get_blob_client("large")
    b.upload_blob(content, max_concurrency=4)  # above 64 MiB: in blocks, side by side
    committed, staged = b.get_block_list("all")
    assert len(committed) == 18 and not staged and b.get_blob_properties().size == len(content)
    assert b.download_blob(max_concurrency=4).readall() == content
    b.stage_block("AAAA", b"tail")
    raises(HttpResponseError, "InvalidBlockList", lambda: b.commit_block_list([BlobBlock("BBBB")]))
    assert b.download_blob(offset=len(content) - 5).readall() == content[-5:]
    # A reader stays on what it began to read, or learns that it changed.
    stream = b.download_blob(max_concurrency=1)
    b.upload_blob(b"new", overwrite=True)
    try:
        assert stream.readall() == content
    except ResourceModifiedError as e:
        assert e.error_code == "ConditionNotMet", e
    assert b.download_blob().readall() == b"new"


def races(box):
    b = box.get_blob_client("count")
    b.upload_blob(b"0")
    lost = []

    def add():
        for _ in range(10):
            while True:
                d = b.download_blob()
                try:
                    b.upload_blob(str(int(d.readall()) + 1), overwrite=True, etag=d.properties.etag, match_condition=MatchConditions.IfNotModified)
                    break
                except ResourceModifiedError:
                    lost.append(1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert b.download_blob().readall() == b"40"

    def create(i):
        try:
            box.upload_blob("one", str(i))
            return 1
        except ResourceExistsError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


def signatures(box, service):
    name = box.container_name
    box.upload_blob("signed/x", b"signed")
    key = keys["key2"]
    delegation = BlobServiceClient(url, credential=token).get_user_delegation_key(datetime.now(timezone.utc), hour)
    for sas in (
        generate_blob_sas(account, name, "signed/x", account_key=key, permission=BlobSasPermissions(read=True), expiry=hour, content_type="text/x"),
        generate_blob_sas(account, name, "signed/x", user_delegation_key=delegation, permission=BlobSasPermissions(read=True), expiry=hour, content_type="text/x"),
        generate_container_sas(account, name, account_key=key, permission=ContainerSasPermissions(read=True), expiry=hour, content_type="text/x"),
        generate_container_sas(account, name, user_delegation_key=delegation, permission=ContainerSasPermissions(read=True), expiry=hour, content_type="text/x"),
        generate_account_sas(account, key, ResourceTypes(object=True), AccountSasPermissions(read=True), hour),
    ):
        b = BlobClient(url, name, "signed/x", credential=sas)
        d = b.download_blob()
        assert d.readall() == b"signed" and d.properties.content_settings.content_type in ("text/x", "application/octet-stream")
        raises(HttpResponseError, "AuthorizationPermissionMismatch", lambda: b.delete_blob())
    late = generate_blob_sas(account, name, "signed/x", account_key=key, permission="r", expiry=datetime.now(timezone.utc) - timedelta(minutes=1))
    raises(ClientAuthenticationError, "AuthenticationFailed", lambda: BlobClient(url, name, "signed/x", credential=late).download_blob())
    raises(ClientAuthenticationError, "NoAuthenticationInformation", lambda: BlobClient(url, name, "signed/x").download_blob())
    # A key that is made anew takes its signatures along.
    sas = generate_container_sas(account, name, account_key=key, permission="r", expiry=hour)
    assert ContainerClient(url, name, credential=sas).download_blob("signed/x").readall() == b"signed"
    fresh = {k["keyName"]: k["value"] for k in arm("POST", accounts + "/regenerateKey", {"keyName": "key2"})["keys"]}
    assert fresh["key1"] == keys["key1"] and fresh["key2"] != key
    keys["key2"] = fresh["key2"]
    raises(ClientAuthenticationError, "AuthenticationFailed", lambda: ContainerClient(url, name, credential=sas).download_blob("signed/x"))
    raises(ClientAuthenticationError, "AuthenticationFailed", lambda: BlobServiceClient(url, credential=key).get_service_properties())
    assert BlobServiceClient(url, credential=fresh["key2"]).get_account_information()["sku_name"] == "Standard_LRS"


for credential in (keys["key1"], token):
    service = BlobServiceClient(url, credential=credential)
    box = containers(service)
    blobs(box)
    names(box)
    if credential is token:
        large(box)
    races(box)
    signatures(box, service)
    assert not service.get_service_properties()["static_website"].enabled
    box.delete_container()
    raises(ResourceNotFoundError, "ContainerNotFound", lambda: box.get_container_properties())
    assert box.exists() is False


def own_name():
    """The server's own address, without a proxy's help: the account comes first in the path."""
    with open(os.environ["EBB_CLIENT"]) as f:
        client = json.load(f)
    service = BlobServiceClient(f"{client['url']}/{account}", credential=keys["key1"], connection_verify=client["ca"])
    box = service.create_container("own-name")
    box.upload_blob("a b/é", b"here")
    assert [b.name for b in box.list_blobs()] == ["a b/é"] and box.download_blob("a b/é").readall() == b"here"
    sas = generate_container_sas(account, "own-name", account_key=keys["key1"], permission="r", expiry=hour)
    assert ContainerClient(f"{client['url']}/{account}", "own-name", credential=sas, connection_verify=client["ca"]).download_blob("a b/é").readall() == b"here"
    assert "own-name" in [c.name for c in service.list_containers()]
    service.delete_container("own-name")


own_name()


def record():
    """An account that somebody made, as the template of a workspace does, is this server's as well."""
    at = f"{group}/providers/Microsoft.Storage/storageAccounts/broughtalong"
    arm("PUT", at, {"location": "westus2", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}})
    key = arm("POST", at + "/listKeys")["keys"][0]["value"]
    for credential in (key, token):
        service = BlobServiceClient("https://broughtalong.blob.core.windows.net", credential=credential)
        box = service.create_container("box")
        box.upload_blob("a", b"here")
        assert box.download_blob("a").readall() == b"here" and [c.name for c in service.list_containers()] == ["box"]
        service.delete_container("box")


record()
wanted = arm("POST", f"{group}/providers/Microsoft.MachineLearningServices/workspaces/main/datastores/workspaceblobstore/listSecrets")["key"]
assert wanted == keys["key1"]
print("every way in works")
