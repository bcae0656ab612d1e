"""The server's side of NTLM and Negotiate with the system's GSSAPI. Each input and output line is a token.

usage: acceptor.py NTLM|Negotiate
The mechanisms read their configuration from their own variables, such as NTLM_USER_FILE.
"""

import base64
import sys

import gssapi

NTLM = gssapi.OID.from_int_seq("1.3.6.1.4.1.311.2.2.10")
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")

negotiate = sys.argv[1] == "Negotiate"
mechanisms = [SPNEGO, NTLM] if negotiate else [NTLM]
credentials = gssapi.Credentials(usage="accept", mechs=mechanisms)
context = gssapi.SecurityContext(creds=credentials, usage="accept")
for line in sys.stdin:
    try:
        token = base64.b64encode(context.step(base64.b64decode(line)) or b"").decode()
        if context.complete:
            print("accepted", str(context.initiator_name), flush=True)
        else:
            print("continue", token, flush=True)
    except gssapi.exceptions.GSSError as error:
        print("refused", str(error).replace("\n", " "), flush=True)
        break
