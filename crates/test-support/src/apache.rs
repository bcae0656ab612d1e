//! Apache httpd as a reverse proxy with authentication, in front of a publishing point.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::daemon::{Daemon, folder, program};
use crate::kerberos::Realm;

pub const USER: &str = "bob";
pub const PASSWORD: &str = "secret";
/// The password's SHA-1 in base64, as written by `htpasswd -s`.
const BASIC: &str = "bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";
/// The MD5 of `bob:push:secret`, as written by `htdigest`.
const DIGEST: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\n";
/// The user file of gss-ntlmssp.
const NTLM: &str = "DOMAIN:bob:secret\n";
const MODULES: &[&str] = &[
    "mpm_event",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "auth_digest",
    "auth_gssapi",
    "headers",
    "proxy",
    "proxy_http",
];
/// The folder of Debian's package.
const MODULES_FOLDER: &str = "/usr/lib/apache2/modules";

/// The authentication that a server requires.
#[derive(Clone, Copy)]
pub enum RequiredAuth<'a> {
    Nobody,
    Basic,
    Digest,
    /// NTLM as scheme NTLM and inside Negotiate, bound to the connection.
    Ntlm,
    /// Negotiate with tickets of this realm.
    Kerberos(&'a Realm),
}

impl RequiredAuth<'_> {
    fn configuration(self, path: &str) -> String {
        let scheme = match self {
            Self::Nobody => return String::new(),
            Self::Basic => format!("AuthType Basic\nAuthBasicProvider file\nAuthUserFile {path}/basic\n"),
            Self::Digest => format!("AuthType Digest\nAuthDigestProvider file\nAuthUserFile {path}/digest\n"),
            Self::Ntlm => "AuthType GSSAPI\nGssapiAllowedMech ntlmssp\nGssapiConnectionBound On\n".to_owned(),
            Self::Kerberos(realm) => format!(
                "AuthType GSSAPI\nGssapiAllowedMech krb5\nGssapiConnectionBound On\nGssapiCredStore keytab:{}\n",
                realm.keytab().display()
            ),
        };
        format!("AuthName push\n{scheme}Require valid-user\n")
    }

    fn environment(self, path: &str) -> Vec<String> {
        match self {
            Self::Nobody | Self::Basic | Self::Digest => Vec::new(),
            Self::Ntlm => vec![format!("NTLM_USER_FILE={path}/ntlm")],
            Self::Kerberos(realm) => realm.environment().map(|(name, value)| format!("{name}={value}")).to_vec(),
        }
    }
}

/// A running Apache.
pub struct Apache {
    daemon: Daemon,
    folder: TempDir,
}

impl Apache {
    /// Starts Apache. It forwards authenticated requests to `upstream`; `lines` are appended to its configuration.
    pub fn new(upstream: SocketAddr, asking: RequiredAuth, lines: &str) -> Self {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("basic", BASIC), ("digest", DIGEST), ("ntlm", NTLM)] {
            fs::write(at(name), text).unwrap();
        }
        let path = folder.path().display().to_string();
        let modules: String =
            MODULES.iter().map(|name| format!("LoadModule {name}_module {MODULES_FOLDER}/mod_{name}.so\n")).collect();
        let daemon = Daemon::start(&at("said"), |address| {
            // If root starts it, it serves as this Debian user, otherwise as the user who starts it.
            let configuration = format!(
                "{modules}ServerRoot {path}\nDefaultRuntimeDir {path}\nPidFile {path}/pid\nListen {address}\n\
                 ServerName localhost\nUser www-data\nGroup www-data\nErrorLog {path}/errors\nLogLevel info\n\
                 LogFormat \"%>s\" exchange\nCustomLog {path}/access exchange\n\
                 <Location />\n{}</Location>\nProxyPass / http://{upstream}/\n{lines}\n",
                asking.configuration(&path)
            );
            fs::write(at("httpd.conf"), configuration).unwrap();
            let command =
                [program("apache2"), "-DFOREGROUND".to_owned(), "-f".to_owned(), format!("{path}/httpd.conf")];
            ["env".to_owned()].into_iter().chain(asking.environment(&path)).chain(command).collect()
        });
        Self { daemon, folder }
    }

    /// The publishing point's URL through Apache, with a host name, which Kerberos requires.
    pub fn location(&self) -> String {
        format!("http://localhost:{}/concert", self.daemon.address.port())
    }

    /// The users and passwords for NTLM, on the server's and on the client's side.
    pub fn ntlm_users(&self) -> PathBuf {
        self.folder.path().join("ntlm")
    }

    /// The statuses of the completed requests.
    pub fn requests(&self) -> Vec<u16> {
        let lines = fs::read_to_string(self.folder.path().join("access")).unwrap();
        lines.lines().map(|line| line.parse().unwrap()).collect()
    }
}
