"""TLS to a server: TLS 1.2 or newer, its certificate verified for one host name or address (RFC 9525).

Law: there is no way to make a connection here that does not verify. mitmproxy would verify for the client's SNI;
this verifies for the host the policy names.
"""

import ipaddress

from mitmproxy.addons.tlsconfig import DEFAULT_HOSTFLAGS
from mitmproxy.net import tls as net_tls
from OpenSSL import SSL


def verified_connection(host: str, ca: str) -> SSL.Connection:
    """A client connection that accepts only certificates for `host` issued under the PEM file `ca`."""
    context = net_tls.create_proxy_server_context(
        method=net_tls.Method.TLS_CLIENT_METHOD,
        min_version=net_tls.Version.TLS1_2,
        max_version=net_tls.Version.TLS1_3,
        cipher_list=None,
        ecdh_curve=None,
        verify=net_tls.Verify.VERIFY_PEER,
        ca_path=None,
        ca_pemfile=ca,
        client_cert=None,
        legacy_server_connect=False,
    )
    connection = SSL.Connection(context)
    # pyOpenSSL has no public call for this; the same as mitmproxy's own TlsConfig
    library = SSL._lib  # type: ignore[attr-defined] # noqa: SLF001
    parameters = library.SSL_get0_param(connection._ssl)  # noqa: SLF001
    library.X509_VERIFY_PARAM_set_hostflags(parameters, DEFAULT_HOSTFLAGS)
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        name = host.encode("ascii")
        connection.set_tlsext_host_name(name)
        accepted = library.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
    else:
        accepted = library.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))
    if accepted != 1:
        raise RuntimeError("the host name cannot be verified")
    connection.set_alpn_protos([b"http/1.1"])
    connection.set_connect_state()
    return connection
