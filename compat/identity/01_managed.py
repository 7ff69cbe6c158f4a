"""Tokens from the server's endpoint for managed identities, in its three forms."""
import os

from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

SCOPE = "https://management.azure.com/.default"
header, endpoint = os.environ["IDENTITY_HEADER"], os.environ["IDENTITY_ENDPOINT"]

tokens = [DefaultAzureCredential().get_token(SCOPE)]  # App Service's, 2019-08-01
tokens.append(ManagedIdentityCredential(client_id=header.split(":")[0]).get_token(SCOPE))

del os.environ["IDENTITY_HEADER"], os.environ["IDENTITY_ENDPOINT"]
os.environ.update(MSI_ENDPOINT=endpoint, MSI_SECRET=header)  # a compute's, 2017-09-01
tokens.append(ManagedIdentityCredential().get_token(SCOPE))

del os.environ["MSI_ENDPOINT"], os.environ["MSI_SECRET"]
os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = endpoint.removesuffix("/msi/token") + "/imds/" + header  # a machine's
tokens.append(ManagedIdentityCredential().get_token(SCOPE))

assert all(t.token.count(".") == 2 and t.expires_on > 0 for t in tokens), tokens
